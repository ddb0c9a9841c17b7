"""Queries about no run at all read no row, on either database.

What SQLAlchemy writes for a condition `IN` an empty list makes SQLite scan the whole table.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import select, text, tuple_
from sqlalchemy.orm import Session

from service.store.database import Database, SqlUnitOfWork
from service.store.tables import RunRow
from tests.support.factories import make_run
from tests.support.service.history import History, fill_history
from tests.support.service.sqlite_operations import OperationCounter, count_operations

RUNS = 60
ROWS_READ = text("SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables")
MAX_OPERATIONS = 90
"""Of SQLite: a statement without rows takes a dozen, each row of a scan at least three."""

MAX_ROWS = 5
"""Of PostgreSQL, which may look at a row of another table before it knows that none match."""

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


def test_a_query_about_no_run_reads_no_row(database_url: str) -> None:
    fill_history(database_url, History(RUNS))
    costs = {}
    with count_operations() as counter:
        database = Database(database_url)
        with database.transaction() as uow:
            session = uow.runs._session
            uow.runs.find_existing(["r1"])  # opens the connection, which reads the schema
            for name, call in CALLS.items():
                before = read_cost(session, counter)
                result = call(uow)
                costs[name] = read_cost(session, counter) - before
                assert not result, name
        database.close()

    max_cost = MAX_OPERATIONS if database_url.startswith("sqlite") else MAX_ROWS
    assert {name: cost for name, cost in costs.items() if cost > max_cost} == {}


def test_an_empty_list_is_a_condition(database_url: str) -> None:
    pair = tuple_(RunRow.id, RunRow.name)
    conditions = {
        "in": RunRow.id.in_([]),
        "pair in": pair.in_([]),
        "in, and": RunRow.id.in_([]) & RunRow.name.is_not(None),
        "in, or": RunRow.id.in_([]) | RunRow.name.is_not(None),
        "not in": RunRow.id.not_in([]),
        "pair not in": pair.not_in([]),
        "not in, and": RunRow.id.not_in([]) & RunRow.name.is_not(None),
    }
    database = Database(database_url)
    with database.transaction() as uow:
        uow.runs.add(make_run())
        session = uow.runs._session
        true = [
            name
            for name, condition in conditions.items()
            if session.scalars(select(RunRow.id).where(condition)).all()
        ]
    database.close()

    assert true == ["in, or", "not in", "pair not in", "not in, and"]


def read_cost(session: Session, counter: OperationCounter) -> int:
    """What the connection of a session has cost so far: operations of SQLite, or rows read."""
    if session.get_bind().dialect.name == "sqlite":
        return counter.operations
    return int(session.scalar(ROWS_READ) or 0)
