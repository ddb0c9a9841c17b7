"""`tandem backup` and `tandem restore` as a person meets them, and a database that is not fit."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import text

from service.doctor import check_database
from service.settings import Settings
from service.stack.ports import choose_free_port
from service.store.schema import schema_transaction, upgrade
from tests.support.factories import a_spec
from tests.support.service.database_rows import fill, rows_of
from tests.support.service.postgres import Postgres
from tests.support.service.stage import open_stage
from tests.support.stack.shell import TANDEM


def test_a_database_moves_from_sqlite_to_postgresql_while_the_service_runs(
    tmp_path: Path, postgres: Postgres
) -> None:
    home, file = tmp_path / "home", tmp_path / "monday.zip"
    url = postgres.empty()
    with open_stage(home) as stage:
        stage.add_dataset()
        run_id = stage.launch(spec=a_spec(tags={"team": "größe"}))["id"]
        written = tandem("backup", str(file), home=home)
    moved = tandem("restore", str(file), home=home, database_url=url.replace("+psycopg", ""))
    again = tandem("restore", str(file), home=home, database_url=url)

    assert written.returncode == 0, written.stderr
    assert f"{home / 'runs'}" in written.stdout
    assert "rows of" in moved.stdout
    assert (again.returncode, "--replace" in again.stderr) == (1, True)
    for said in (written, moved, again):
        assert "Traceback" not in said.stderr
        assert "secret@" not in said.stdout + said.stderr
    with open_stage(home, database_url=url) as stage:
        assert stage.run(run_id)["spec"]["tags"] == {"team": "größe"}
        stage.turn()
        assert stage.run(run_id)["state"] == "starting"


def test_nothing_is_restored_while_a_service_answers(tmp_path: Path) -> None:
    with schema_transaction(Settings(home=tmp_path).sqlalchemy_url) as connection:
        upgrade(connection)
        fill(connection)
        before = rows_of(connection)
    assert tandem("backup", str(tmp_path / "b.zip"), home=tmp_path).returncode == 0

    with something_that_answers() as port:
        words = ("restore", "--replace", str(tmp_path / "b.zip"))
        refused = tandem(*words, home=tmp_path, port=port)

    assert refused.returncode == 1
    assert f"A service runs at http://127.0.0.1:{port}" in refused.stderr
    assert "tandem down" in refused.stderr
    with schema_transaction(Settings(home=tmp_path).sqlalchemy_url) as connection:
        assert rows_of(connection) == before


def test_a_service_does_not_start_on_a_newer_database(tmp_path: Path) -> None:
    with schema_transaction(Settings(home=tmp_path).sqlalchemy_url) as connection:
        upgrade(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    refused = tandem("serve", home=tmp_path)

    assert refused.returncode == 1
    assert "schema revision 9999" in refused.stderr
    assert "newer" in refused.stderr
    assert "Traceback" not in refused.stderr + refused.stdout


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tandem.db").write_text("I am a letter to my aunt. " * 99)

    refused = tandem("backup", str(tmp_path / "b.zip"), home=tmp_path)

    assert refused.returncode == 1
    assert "file is not a database" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("wrong", ["password", "port"])
def test_the_doctor_says_how_the_database_is_and_no_password(
    postgres: Postgres, wrong: str
) -> None:
    good = Settings(database_url=postgres.fresh())
    bad_url = good.sqlalchemy_url.replace(":secret@", ":hush@")
    if wrong == "port":
        bad_url = bad_url.replace(f":{postgres.port}/", f":{choose_free_port()}/")

    well, ill = check_database(good.sqlalchemy_url), check_database(bad_url)

    assert well.ok, well
    assert "PostgreSQL" in well.detail
    assert not ill.ok
    assert "TANDEM_DATABASE_URL" in ill.advice
    assert "hush" not in str(ill) + repr(ill)
    assert "secret" not in str(well)


def test_the_doctor_finds_an_sqlite_file_that_is_not_there_yet_in_order(tmp_path: Path) -> None:
    finding = check_database(Settings(home=tmp_path / "new").sqlalchemy_url)

    assert finding.ok
    assert "not created yet" in finding.detail
    assert not (tmp_path / "new").exists()


def tandem(
    *words: str, home: Path, port: int | None = None, database_url: str = ""
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TANDEM_HOME": str(home), "TANDEM_PORT": str(port or choose_free_port())}
    if database_url:
        env["TANDEM_DATABASE_URL"] = database_url
    return subprocess.run(
        [str(TANDEM), *words], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def something_that_answers() -> Iterator[int]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
