"""Thousands of runs in a database, and the statements that a step executes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event, func, insert, select

from configs.spec.jobs import get_dataset_name
from service.domain.run_fields import flatten_run
from service.domain.runs import Attempt, Run
from service.domain.states import ACTIVE_STATES
from service.store.database import Database
from service.store.tables import AttemptRow, RunRow

_WRITES = ("INSERT", "UPDATE", "DELETE")


@dataclass
class Statements:
    """What was executed, in order."""

    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    rows_by_write: list[int] = field(default_factory=list)
    """How many rows each write has parameters for."""


@contextmanager
def record_statements(database: Database) -> Iterator[Statements]:
    statements = Statements()

    def record(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith(_WRITES):
            statements.writes.append(statement)
            rows = len(parameters) if isinstance(parameters, list) else 1
            statements.rows_by_write.append(rows)
        elif not statement.startswith("BEGIN"):
            statements.reads.append(statement)

    event.listen(database._engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(database._engine, "before_cursor_execute", record)


def add_runs(database: Database, runs: Iterable[Run], *, node_ids: Iterable[str] = ()) -> None:
    """Add runs, those that start or train with an attempt on the next of `node_ids`."""
    nodes = iter(node_ids)
    rows, attempts = [], []
    with database.transaction() as uow:
        session = uow.runs._session
        sequence = session.scalar(select(func.max(RunRow.sequence))) or 0
        for number, run in enumerate(runs, start=sequence + 1):
            rows.append(_make_row(run, number))
            if run.state in ACTIVE_STATES:
                resources = run.spec.resources
                attempt = Attempt(
                    run.id,
                    run.attempt,
                    run.submission_id,
                    run.updated_at,
                    num_cpus=resources.num_cpus,
                    num_gpus=resources.num_gpus,
                    node_id=next(nodes, None),
                )
                attempts.append(vars(attempt))
        session.execute(insert(RunRow), rows)
        if attempts:
            session.execute(insert(AttemptRow), attempts)


def _make_row(run: Run, sequence: int) -> dict[str, Any]:
    progress = run.results.progress
    return flatten_run(run) | {
        "sequence": sequence,
        "task": run.task,
        "dataset": get_dataset_name(run.spec),
        "spec": run.spec.model_dump_json(),
        "tags": dict(run.spec.tags),
        "progress": None if progress is None else progress.model_dump_json(),
    }
