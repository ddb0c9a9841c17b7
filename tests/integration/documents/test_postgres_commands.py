"""The documents' commands of PostgreSQL, on a server of the tests' own."""

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from service.doctor import check_database
from service.settings import Settings
from tests.support.documents.command_line import split_arguments, split_assignments
from tests.support.documents.examples import read_examples
from tests.support.service.postgres import Postgres
from tests.support.service.stage import open_stage

_ROLE = "documents"
"""Instead of `tandem`, which is the superuser of the tests' server."""


@pytest.fixture
def environment(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """Variables with which PostgreSQL's programs reach the server as its superuser."""
    variables = {
        "PATH": f"{postgres.programs}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGUSER": "tandem",
        "PGPASSWORD": "secret",
        "PGDATABASE": "postgres",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return postgres


def test_tandem_runs_on_the_database_that_the_operator_creates(
    environment: Postgres, tmp_path: Path
) -> None:
    create = command_of("docs/operate.md", "sudo -u postgres psql").replace("tandem", _ROLE)
    export = command_of("docs/operate.md", "export TANDEM_DATABASE_URL").replace("tandem", _ROLE)
    (address,) = split_assignments(split_arguments(export.removeprefix("export ")))[0].values()
    url = address.replace(":5432/", f":{environment.port}/")

    execute(create.removeprefix("sudo -u postgres "), tmp_path)

    finding = check_database(Settings(database_url=url).sqlalchemy_url)
    assert finding.ok, finding
    with open_stage(tmp_path, database_url=url) as stage:
        assert stage.http.get("/v1/runs").is_success
    environment.drop(url)


def test_the_database_of_mlflow_is_dumped_and_restored(
    environment: Postgres, tmp_path: Path
) -> None:
    inside = "docker compose exec -T postgres "
    dump, restore = (
        command_of("docker/OPERATING.md", f"{inside}{program}").removeprefix(inside)
        for program in ("pg_dump", "pg_restore")
    )
    roles = ("CREATE ROLE postgres SUPERUSER LOGIN PASSWORD 'secret'", "CREATE ROLE mlflow")
    create, drop = "CREATE DATABASE mlflow OWNER mlflow", "DROP DATABASE mlflow"
    for statement in (*roles, create):
        query(statement)
    query("SET ROLE mlflow; CREATE TABLE runs AS SELECT 7 AS epoch", database="mlflow")

    execute(dump, tmp_path)
    for statement in (drop, create):
        query(statement)
    execute(restore, tmp_path)

    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'runs'"
    assert query("SELECT epoch FROM runs", database="mlflow") == 7
    assert query(owner, database="mlflow") == "mlflow"
    for statement in (drop, "DROP ROLE mlflow", "DROP ROLE postgres"):
        query(statement)


def command_of(document: str, beginning: str) -> str:
    """The only command of a document that begins so."""
    texts = [example.text for example in read_examples(Path(document))]
    (command,) = (text for text in texts if text.startswith(beginning))
    return command


def execute(command: str, folder: Path) -> None:
    answer = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def query(statement: str, *, database: str = "postgres") -> object:
    """The first value of a statement's last result; None without one."""
    with psycopg.connect(dbname=database, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        while cursor.nextset():
            pass
        row = cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]
