"""`tandem backup` and `tandem restore`, and a database that cannot be used."""

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
from tests.support.cli.in_process import call_tandem
from tests.support.factories import make_spec
from tests.support.service.database_rows import fill, read_rows
from tests.support.service.postgres import Postgres
from tests.support.service.stage import open_stage


@pytest.mark.slow  # test_backup.py moves databases between all kinds without a process
def test_a_database_moves_from_sqlite_to_postgresql_while_the_service_runs(
    tmp_path: Path, postgres: Postgres
) -> None:
    home, file = tmp_path / "home", tmp_path / "monday.zip"
    url = postgres.create_empty_database()
    with open_stage(home) as stage:
        stage.add_dataset()
        run_id = stage.launch(spec=make_spec(tags={"team": "größe"}))["id"]
        backup = tandem("backup", str(file), home=home)
    restored = tandem("restore", str(file), home=home, database_url=url.replace("+psycopg", ""))
    repeated = tandem("restore", str(file), home=home, database_url=url)

    assert backup.returncode == 0, backup.stderr
    assert f"{home / 'runs'}" in backup.stdout
    assert "rows of" in restored.stdout
    assert (repeated.returncode, "--replace" in repeated.stderr) == (1, True)
    for result in (backup, restored, repeated):
        assert "Traceback" not in result.stderr
        assert "secret@" not in result.stdout + result.stderr
    with open_stage(home, database_url=url) as stage:
        assert stage.run(run_id)["spec"]["tags"] == {"team": "größe"}
        stage.run_loops()
        assert stage.run(run_id)["state"] == "starting"


def test_nothing_is_restored_while_a_service_answers(tmp_path: Path) -> None:
    with schema_transaction(Settings(home=tmp_path).sqlalchemy_url) as connection:
        upgrade(connection)
        fill(connection)
        before = read_rows(connection)
    assert tandem("backup", str(tmp_path / "b.zip"), home=tmp_path).returncode == 0

    with run_http_server() as port:
        arguments = ("restore", "--replace", str(tmp_path / "b.zip"))
        result = tandem(*arguments, home=tmp_path, port=port)

    assert result.returncode == 1
    assert f"A service runs at http://127.0.0.1:{port}" in result.stderr
    assert "tandem down" in result.stderr
    with schema_transaction(Settings(home=tmp_path).sqlalchemy_url) as connection:
        assert read_rows(connection) == before


@pytest.mark.slow  # test_migrations.py has the refusal
def test_a_service_does_not_start_on_a_newer_database(tmp_path: Path) -> None:
    with schema_transaction(Settings(home=tmp_path).sqlalchemy_url) as connection:
        upgrade(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    result = tandem("serve", home=tmp_path)

    assert result.returncode == 1
    assert "schema revision 9999" in result.stderr
    assert "newer" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tandem.db").write_text("I am a letter to my aunt. " * 99)

    result = tandem("backup", str(tmp_path / "b.zip"), home=tmp_path)

    assert result.returncode == 1
    assert "file is not a database" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("invalid", ["password", "port"])
def test_the_doctor_says_how_the_database_is_and_no_password(
    postgres: Postgres, invalid: str
) -> None:
    settings = Settings(database_url=postgres.create_database())
    bad_url = settings.sqlalchemy_url.replace(":secret@", ":hush@")
    if invalid == "port":
        bad_url = bad_url.replace(f":{postgres.port}/", f":{choose_free_port()}/")

    reachable, unreachable = check_database(settings.sqlalchemy_url), check_database(bad_url)

    assert reachable.ok, reachable
    assert "PostgreSQL" in reachable.detail
    assert not unreachable.ok
    assert "TANDEM_DATABASE_URL" in unreachable.advice
    assert "hush" not in str(unreachable) + repr(unreachable)
    assert "secret" not in str(reachable)


def test_the_doctor_finds_an_sqlite_file_that_is_not_there_yet_in_order(tmp_path: Path) -> None:
    finding = check_database(Settings(home=tmp_path / "new").sqlalchemy_url)

    assert finding.ok
    assert "not created yet" in finding.detail
    assert not (tmp_path / "new").exists()


def tandem(
    *arguments: str, home: Path, port: int | None = None, database_url: str = ""
) -> subprocess.CompletedProcess[str]:
    variables = {"TANDEM_HOME": str(home), "TANDEM_PORT": str(port or choose_free_port())}
    if database_url:
        variables["TANDEM_DATABASE_URL"] = database_url
    return call_tandem(*arguments, variables=variables)


@contextmanager
def run_http_server() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Keep requests out of the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
