"""Queries about no run at all.

SQLite scans the whole table for a condition `IN` an empty list, so they must not reach it.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from service.store.database import Database, SqlUnitOfWork

CALLS: dict[str, Callable[[SqlUnitOfWork], object]] = {
    "attempts.newest_of_runs": lambda uow: uow.attempts.newest_of_runs([]),
    "attempts.of_runs": lambda uow: uow.attempts.of_runs([]),
    "baselines.find_best_maps": lambda uow: uow.baselines.find_best_maps([]),
    "baselines.find_equal_pairs": lambda uow: uow.baselines.find_equal_pairs([], project="p"),
    "comparisons.of_runs": lambda uow: uow.comparisons.of_runs([]),
    "events.last_transitions": lambda uow: uow.events.last_transitions([]),
    "retention.count": lambda uow: uow.retention.count("events", []),
    "retention.delete": lambda uow: uow.retention.delete("events", [], limit=5),
    "retention.find_referenced": lambda uow: uow.retention.find_referenced([]),
    "retention.mark_files_deleted": lambda uow: uow.retention.mark_files_deleted(
        [], at=datetime(2026, 1, 1, tzinfo=UTC)
    ),
    "retention.sweeps_of": lambda uow: uow.retention.sweeps_of([]),
    "runs.find_existing": lambda uow: uow.runs.find_existing([]),
    "runs.of_sweep": lambda uow: uow.runs.of_sweep("s1", trials=[]),
    "runs.queued": lambda uow: uow.runs.queued([]),
    "runs.set_waiting_for": lambda uow: uow.runs.set_waiting_for({}),
    "runs.states_of": lambda uow: uow.runs.states_of([]),
}


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that are executed during the test."""
    recorded: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        recorded.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    yield recorded
    event.remove(Engine, "before_cursor_execute", record)


@pytest.mark.parametrize("name", CALLS)
def test_no_statement_asks_about_no_run(name: str, tmp_path: Path, statements: list[str]) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tandem.db'}")
    with database.snapshot() as uow:
        statements.clear()
        result = CALLS[name](uow)
    database.close()

    assert not result
    assert statements == []
