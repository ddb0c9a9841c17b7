"""Migrations up and down on both databases, with rows, and by one service at a time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from service.domain.errors.systems import SchemaUnknown
from service.store.database import Database
from service.store.engine import open_for_reading
from service.store.schema import current_revision, downgrade, revisions, schema_transaction, upgrade
from service.store.tables import Base
from tests.support.factories import make_spec
from tests.support.service.database_rows import NOW, fill, read_rows
from tests.support.service.postgres import Postgres

NEWEST = revisions()[-1]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database without a schema, once per kind of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'tandem.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    new_url = server.create_empty_database()
    yield new_url
    server.drop(new_url)


def test_rows_survive_an_upgrade_to_the_schema_that_is_there(url: str) -> None:
    with schema_transaction(url) as connection:
        upgrade(connection)
        fill(connection)
        before = read_rows(connection)

    with schema_transaction(url) as connection:
        upgrade(connection)
        assert read_rows(connection) == before
        assert find_differences(connection) == []


def test_a_current_schema_is_not_migrated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tandem.db'}")
    database.migrate()
    monkeypatch.setattr(command, "upgrade", lambda *_: pytest.fail("Alembic imports every script"))

    database.migrate()

    database.close()


@pytest.mark.parametrize(
    ("spec", "dataset"),
    [
        (make_spec(), "pets"),
        ({"task": "evaluate", "data": {"dataset": {"name": "pets"}}}, "pets"),
        ({"task": "export", "dataset": {"name": "pets"}}, "pets"),
        ({"task": "export", "dataset": None}, None),
        ({"task": "probe", "base": make_spec()}, "pets"),
        ({"task": "report", "run": "r00000000000a"}, None),
        (make_spec(data={"dataset": {"root": "/data/pets"}}), None),
    ],
    ids=["run", "evaluation", "export", "export of a run", "probe", "report", "files"],
)
def test_runs_of_0101_get_the_name_of_their_dataset(
    tmp_path: Path, spec: dict[str, object], dataset: str | None
) -> None:
    with schema_transaction(f"sqlite:///{tmp_path / 'tandem.db'}") as connection:
        upgrade(connection, "0101")
        fill(connection)
        connection.execute(text("UPDATE runs SET spec = :spec"), {"spec": json.dumps(spec)})
        before = read_rows(connection)

        upgrade(connection)

        names = connection.execute(text("SELECT DISTINCT dataset FROM runs")).scalars().all()
        assert names == [dataset]
        assert find_differences(connection) == []
        downgrade(connection, "0101")
        assert read_rows(connection) == before


def test_rows_of_0102_get_tags_totals_and_what_remains_to_be_compared(url: str) -> None:
    with schema_transaction(url) as connection:
        upgrade(connection, "0102")
        fill(connection)
        start, end = NOW, NOW + timedelta(seconds=10)
        for statement in (
            "UPDATE runs SET state = 'succeeded', report_run_id = NULL, sweep_id = NULL, "
            "project = 'p', baseline_run_id = CASE id WHEN 'r00000000000a' "
            "THEN 'r00000000000b' END, is_baseline_lost = false",
            "UPDATE attempts SET created_at = :start, ended_at = :end, processes = 1, "
            "num_cpus = 2, num_gpus = 1, pack_job = 'pack'",
        ):
            connection.execute(text(statement), {"start": start, "end": end})

        upgrade(connection, "0106")

        rows = read_rows(connection)
    tags = {(row["run_id"], row["key"], row["value"]) for row in rows["run_tags"]}
    assert tags == {("r00000000000a", "team", "größe"), ("r00000000000a", "by", "a")}
    assert rows["run_counts"] == [{"state": "succeeded", "project": "p", "runs": 2}]
    assert {row["reason"]: row["attempts"] for row in rows["attempt_totals"]} == {"": 1, "oom": 1}
    assert sum(row["gpu_s"] for row in rows["attempt_totals"]) == pytest.approx(10.0, abs=1e-3)
    assert [bool(row["comparison_revision"]) for row in rows["runs"]] == [True, False]
    assert {row["project"] for row in rows["events"]} == {"p"}


def test_the_schema_goes_down_to_nothing_and_up_again(url: str) -> None:
    with schema_transaction(url) as connection:
        upgrade(connection)
        fill(connection)
        downgrade(connection, "base")
        assert read_rows(connection) == {}
        upgrade(connection)
        assert find_differences(connection) == []


def test_migrating_twice_changes_nothing(url: str) -> None:
    database = Database(url)
    database.migrate()
    with schema_transaction(url) as connection:
        fill(connection)
        before = read_rows(connection)

    database.migrate()

    with schema_transaction(url) as connection:
        assert read_rows(connection) == before
    database.close()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(url: str) -> None:
    def upgrade_and_fail() -> None:
        with schema_transaction(url) as connection:
            upgrade(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        upgrade_and_fail()

    with schema_transaction(url) as connection:
        assert current_revision(connection) is None
        upgrade(connection)
        assert find_differences(connection) == []


def test_a_newer_database_is_refused_in_a_sentence_and_left_alone(url: str) -> None:
    database = Database(url)
    database.migrate()
    with schema_transaction(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaUnknown, match="revision 9999") as exc_info:
        database.migrate()

    assert exc_info.value.advice is not None
    assert NEWEST in str(exc_info.value)
    with schema_transaction(url) as connection:
        assert current_revision(connection) == "9999"
    database.close()


@pytest.mark.parametrize("revision", ["0001", "0014", "0100"])
def test_a_database_from_before_the_first_release_is_refused_and_left_alone(
    url: str, revision: str
) -> None:
    database = Database(url)
    database.migrate()
    with schema_transaction(url) as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))

    with pytest.raises(SchemaUnknown, match=r"older version .* new TANDEM_HOME"):
        database.migrate()

    with schema_transaction(url) as connection:
        assert current_revision(connection) == revision
    database.close()


def test_two_services_that_start_at_once_on_an_empty_database_both_come_up(url: str) -> None:
    code = (
        "import sys; from service.store.database import Database; Database(sys.argv[1]).migrate()"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [start.communicate(timeout=60)[1] for start in starts]

    assert [start.returncode for start in starts] == [0, 0], outputs
    engine = open_for_reading(url)
    with engine.begin() as connection:
        assert find_differences(connection) == []
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    engine.dispose()


def find_differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": False}
    )
    return list(compare_metadata(context, Base.metadata))
