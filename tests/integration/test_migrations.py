"""The schema goes up and down on both databases, with rows in it, and by one service at a time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from service.domain.errors import SchemaUnknown
from service.store.database import Database
from service.store.engine import open_for_reading
from service.store.schema import current_revision, downgrade, revisions, schema_transaction, upgrade
from service.store.tables import Base
from tests.postgres import Postgres
from tests.rows import common, fill, rows_of

FIRST, *_, NEWEST = revisions()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind with nothing in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'tandem.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    made = server.empty()
    yield made
    server.drop(made)


@pytest.mark.parametrize("revision", revisions())
def test_rows_survive_the_way_to_the_newest_schema_and_back(url: str, revision: str) -> None:
    with schema_transaction(url) as connection:
        upgrade(connection, revision)
        fill(connection)
        before = rows_of(connection)

    with schema_transaction(url) as connection:
        upgrade(connection)
        there, kept = common(before, rows_of(connection))
        assert kept == there
        assert differences(connection) == []

    for lower in down_from(NEWEST, to=revision):
        with schema_transaction(url) as connection:
            downgrade(connection, lower)
    with schema_transaction(url) as connection:
        assert rows_of(connection) == before


def test_rows_of_the_newest_schema_survive_each_step_down_as_far_as_there_is_a_place_for_them(
    url: str,
) -> None:
    with schema_transaction(url) as connection:
        upgrade(connection)
        fill(connection)
        before = rows_of(connection)

    for lower in down_from(NEWEST, to=FIRST):
        with schema_transaction(url) as connection:
            downgrade(connection, lower)
            there, kept = common(before, rows_of(connection))
            assert kept == there, lower
            if url.startswith("sqlite"):
                assert connection.execute(text("PRAGMA foreign_key_check")).all() == []

    with schema_transaction(url) as connection:
        upgrade(connection)
        there, kept = common(before, rows_of(connection))
        assert kept["events"] == there["events"]
        assert differences(connection) == []
        downgrade(connection, "base")
        assert rows_of(connection) == {}
        upgrade(connection)
        assert differences(connection) == []


def test_a_run_from_before_attempts_had_rows_gets_one(url: str) -> None:
    with schema_transaction(url) as connection:
        upgrade(connection, "0001")
        fill(connection)
        upgrade(connection)

        found = connection.execute(text("SELECT submission_id FROM attempts ORDER BY 1")).scalars()

        assert list(found) == ["r00000000000a-a7", "r00000000000b-a8"]


def test_words_that_mean_nothing_any_more_are_taken_out_of_specs(url: str) -> None:
    old = {"precision": "fp32", "student": {"kind": "gfl", "depth": 18}, "seed": 3}
    with schema_transaction(url) as connection:
        upgrade(connection, "0002")
        fill(connection)
        connection.execute(text("UPDATE runs SET spec = :spec"), {"spec": json.dumps(old)})
        upgrade(connection)

        specs = connection.execute(text("SELECT spec FROM runs")).scalars()

        assert [json.loads(spec) for spec in specs] == [{"student": {"depth": 18}, "seed": 3}] * 2


def test_what_an_older_tandem_cannot_read_is_not_left_to_it(url: str) -> None:
    with schema_transaction(url) as connection:
        upgrade(connection)
        fill(connection)
        connection.execute(
            text("UPDATE runs SET state = 'paused', desired = 'paused' WHERE state = 'queued'")
        )
        connection.execute(text("UPDATE runs SET task = 'export' WHERE state = 'failed'"))
        downgrade(connection, "0005")
        paused = connection.execute(text("SELECT state, desired FROM runs ORDER BY id")).first()
        downgrade(connection, "0004")
        left = connection.execute(text("SELECT id FROM runs")).scalars().all()

    assert paused == ("queued", "run")
    assert left == ["r00000000000a"]


def test_mlflow_is_told_again_of_verdicts_that_rest_on_one_pair_alone(url: str) -> None:
    alone = "and nothing else: there is one seed, how much seeds differ is unknown"
    documents = {
        "helps": {"verdict": "helps", "basis": alone},
        "cannot_tell": {"verdict": "cannot_tell", "basis": alone},
        "floor": {"verdict": "helps", "basis": "and the noise floor of 4 runs was added"},
    }
    with schema_transaction(url) as connection:
        upgrade(connection, "0013")
        fill(connection)
        connection.execute(text("DELETE FROM comparisons"))
        runs = list(connection.execute(text("SELECT id FROM runs ORDER BY id")).scalars())
        told = {}
        for name, document in documents.items():
            connection.execute(text("DELETE FROM comparisons"))
            connection.execute(
                text(
                    "INSERT INTO comparisons (run_id, document, at, is_shown) "
                    "VALUES (:run, :document, '2026-11-23 12:00:00', true)"
                ),
                {"run": runs[0], "document": json.dumps(document, separators=(",", ":"))},
            )
            upgrade(connection, "0014")
            told[name] = bool(connection.execute(text("SELECT is_shown FROM comparisons")).scalar())
            downgrade(connection, "0013")

    assert told == {"helps": False, "cannot_tell": True, "floor": True}


def test_migrating_twice_changes_nothing(url: str) -> None:
    database = Database(url)
    database.migrate()
    with schema_transaction(url) as connection:
        fill(connection)
        before = rows_of(connection)

    database.migrate()

    with schema_transaction(url) as connection:
        assert rows_of(connection) == before
    database.close()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(url: str) -> None:
    def upgrade_and_fail() -> None:
        with schema_transaction(url) as connection:
            upgrade(connection)
            raise ZeroDivisionError

    with schema_transaction(url) as connection:
        upgrade(connection, FIRST)
    with pytest.raises(ZeroDivisionError):
        upgrade_and_fail()

    with schema_transaction(url) as connection:
        assert current_revision(connection) == FIRST
        upgrade(connection)


def test_a_newer_database_is_refused_in_a_sentence_and_left_alone(url: str) -> None:
    database = Database(url)
    database.migrate()
    with schema_transaction(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaUnknown, match="revision 9999") as told:
        database.migrate()

    assert told.value.advice is not None
    assert NEWEST in str(told.value)
    with schema_transaction(url) as connection:
        assert current_revision(connection) == "9999"
    database.close()


def test_two_services_that_start_at_once_on_an_empty_database_both_come_up(url: str) -> None:
    code = (
        "import sys; from service.store.database import Database; Database(sys.argv[1]).migrate()"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [start.communicate(timeout=60)[1] for start in starts]

    assert [start.returncode for start in starts] == [0, 0], said
    engine = open_for_reading(url)
    with engine.begin() as connection:
        assert differences(connection) == []
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    engine.dispose()


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": False}
    )
    return list(compare_metadata(context, Base.metadata))


def down_from(revision: str, *, to: str) -> list[str]:
    known = revisions()
    return known[known.index(to) : known.index(revision)][::-1]
