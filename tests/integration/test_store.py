"""The store on a real SQLite file: migrations, constraints, replays, time zones, many threads."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from configs.spec import Metrics
from service.domain.errors import RunNotFound
from service.domain.runs import Attempt, Event
from service.domain.states import RunState
from service.store.database import Database
from service.store.tables import Table
from tests.factories import a_run

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tandem.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{file}")
    database.migrate()
    yield database
    database.close()


def test_migrations_make_the_tables_that_the_code_has(database: Database, file: Path) -> None:
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Table.metadata)
    engine.dispose()

    assert differences == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    with database.begin() as unit:
        unit.runs.add(a_run())

    database.migrate()

    with database.begin() as unit:
        assert unit.runs.get(a_run().id) == a_run()


def test_runs_from_before_attempts_had_rows_get_one(
    database: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(state=RunState.RUNNING, attempt=2)
    with database.begin() as unit:
        unit.runs.add(run)
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", lambda config, _: command.downgrade(config, "0001"))
        database.migrate()

    database.migrate()

    with database.begin() as unit:
        assert [attempt.submission_id for attempt in unit.attempts.of_run(run.id)] == [
            run.submission_id
        ]


def test_the_file_is_in_wal_mode_and_keeps_foreign_keys(database: Database) -> None:
    with database.begin() as unit:
        session = unit.runs._session
        mode = session.scalar(text("PRAGMA journal_mode"))
        keys = session.scalar(text("PRAGMA foreign_keys"))

    assert (mode, keys) == ("wal", 1)


def test_an_event_of_no_run_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), database.begin() as unit:
        unit.events.add(Event("r" + "9" * 12, NOW, "user", "launched", "?"))


def test_an_attempt_is_made_once(database: Database) -> None:
    run = a_run()
    with database.begin() as unit:
        unit.runs.add(run)
        unit.attempts.add(Attempt(run.id, 1, f"{run.id}-a1", NOW))

    with pytest.raises(IntegrityError, match="UNIQUE"), database.begin() as unit:
        unit.attempts.add(Attempt(run.id, 2, f"{run.id}-a1", NOW))


def test_what_a_failed_transaction_wrote_is_gone(database: Database) -> None:
    def add_and_fail() -> None:
        with database.begin() as unit:
            unit.runs.add(a_run())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()

    with pytest.raises(RunNotFound), database.begin() as unit:
        unit.runs.get(a_run().id)


def test_a_metric_that_comes_again_keeps_its_first_value(database: Database) -> None:
    run = a_run()
    first = Metrics(at=NOW, attempt=1, step=1, values={"train/loss": 2.0})
    again = Metrics(at=NOW, attempt=2, step=1, values={"train/loss": 9.0, "train/lr": 0.1})
    with database.begin() as unit:
        unit.runs.add(run)
        unit.points.add(run.id, [first])
        unit.points.add(run.id, [again])

        points = unit.points.of_run(run.id, key=None)

    assert [(p.key, p.value) for p in points] == [("train/loss", 2.0), ("train/lr", 0.1)]


def test_times_come_back_aware_and_in_utc(database: Database) -> None:
    elsewhere = timezone(timedelta(hours=9))
    run = a_run(created_at=NOW.astimezone(elsewhere), heard_at=NOW)
    with database.begin() as unit:
        unit.runs.add(run)

    with database.begin() as unit:
        stored = unit.runs.get(run.id)

    assert stored.created_at == NOW
    assert stored.created_at.utcoffset() == timedelta(0)


def test_a_run_keeps_everything_it_has(database: Database) -> None:
    run = a_run(
        attempt=2, latest={"train/loss": 0.5}, best_map=0.3, message="ü", desired="cancelled"
    )
    with database.begin() as unit:
        unit.runs.add(replace(run, message=""))
        unit.runs.save(run)

    with database.begin() as unit:
        assert unit.runs.get(run.id) == run


def test_threads_that_read_and_write_at_once_lose_nothing(database: Database) -> None:
    run = a_run()
    with database.begin() as unit:
        unit.runs.add(run)

    def count_up() -> None:
        for _ in range(20):
            with database.begin() as unit:
                current = unit.runs.get(run.id)
                unit.runs.save(replace(current, spool_next=current.spool_next + 1))

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.begin() as unit:
        assert unit.runs.get(run.id).spool_next == 80
