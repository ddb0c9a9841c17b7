"""The database as the store of the service: its schema and its transactions."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, sessionmaker

from service.domain.repositories.unit_of_work import UnitOfWork
from service.store import engine
from service.store.access import SqlAuditLog, SqlTokens
from service.store.attempts import SqlAttempts
from service.store.autopilots.repository import SqlAutopilots
from service.store.baselines import SqlBaselines, SqlComparisons
from service.store.engine import (
    WriteInSnapshot,
    is_sqlite,
    open_engine,
    open_snapshot_engine,
    refuse_writes,
    translate_db_errors,
)
from service.store.events import SqlEvents
from service.store.idempotency import SqlIdempotencyKeys
from service.store.leases import SqlLeaderLeases
from service.store.metric_points import SqlMetricPoints
from service.store.metrics import SqlMetricsQueries
from service.store.projects import SqlProjects
from service.store.registry import SqlRegistry
from service.store.retention import SqlRetention
from service.store.runs import SqlRuns
from service.store.schema import schema_transaction, upgrade
from service.store.sweeps import SqlSweeps
from service.store.totals import apply_changes
from service.store.writers.baseline_memo import BaselineMemo
from service.store.writers.group_commit import GroupCommit
from service.store.writers.new_rows import BatchingSession
from service.store.writers.queue import WriterQueue

Written = TypeVar("Written")


@dataclass(frozen=True)
class SqlUnitOfWork:
    """Implements `UnitOfWork`."""

    runs: SqlRuns
    sweeps: SqlSweeps
    autopilots: SqlAutopilots
    idempotency_keys: SqlIdempotencyKeys
    attempts: SqlAttempts
    events: SqlEvents
    metric_points: SqlMetricPoints
    baselines: SqlBaselines
    comparisons: SqlComparisons
    registry: SqlRegistry
    projects: SqlProjects
    leader_leases: SqlLeaderLeases
    tokens: SqlTokens
    audit: SqlAuditLog
    metrics: SqlMetricsQueries
    retention: SqlRetention


class Database:
    """Implements `Store` on SQLite (in WAL mode) or PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = open_engine(url)
        self._snapshot_engine = open_snapshot_engine(self._engine)
        self._sessions = sessionmaker(self._engine, class_=BatchingSession, expire_on_commit=False)
        self._snapshot_sessions = sessionmaker(
            self._snapshot_engine, class_=BatchingSession, expire_on_commit=False
        )
        event.listen(self._snapshot_sessions, "do_orm_execute", _refuse_row_locks)
        self._writers = WriterQueue() if is_sqlite(url) else None
        self._group_commit = GroupCommit(self.transaction)

    def migrate(self) -> None:
        with schema_transaction(self._url) as connection:
            upgrade(connection)

    @contextmanager
    def transaction(self) -> Iterator[SqlUnitOfWork]:
        """A transaction, as `Store` says. Those of one process on SQLite follow each other in the
        order in which they were opened.

        Nothing is retried, not even after a deadlock: the body of the `with` cannot run twice.
        """
        with self._wait_for_turn(), translate_db_errors(), self._sessions() as session:
            uow = _unit_of_work(session)
            yield uow
            session.insert_new_rows()
            apply_changes(session)
            with translate_db_errors(at_commit=True):
                session.commit()

    @contextmanager
    def snapshot(self) -> Iterator[SqlUnitOfWork]:
        with translate_db_errors(), refuse_writes(), self._snapshot_sessions() as session:
            uow = _unit_of_work(session)
            yield uow
            # Changes that are not flushed would be dropped without a word.
            session.flush()

    def write_together(self, write: Callable[[UnitOfWork], Written]) -> Written:
        return self._group_commit.run(write)

    def _wait_for_turn(self) -> AbstractContextManager[None]:
        if self._writers is None:
            return nullcontext()
        return self._writers.turn(timeout_s=engine.LOCK_TIMEOUT_S)

    def clone(self) -> "Database":
        """The same database with separate connections, as another service process has them."""
        return Database(self._url)

    def close(self) -> None:
        self._engine.dispose()
        self._snapshot_engine.dispose()


def _refuse_row_locks(statement: ORMExecuteState) -> None:
    """SQLite ignores them, so tests on SQLite would not notice one in a snapshot."""
    if getattr(statement.statement, "_for_update_arg", None) is not None:
        raise WriteInSnapshot


def _unit_of_work(session: BatchingSession) -> SqlUnitOfWork:
    memo = BaselineMemo()
    return SqlUnitOfWork(
        runs=SqlRuns(session, memo),
        sweeps=SqlSweeps(session),
        autopilots=SqlAutopilots(session),
        idempotency_keys=SqlIdempotencyKeys(session),
        attempts=SqlAttempts(session),
        events=SqlEvents(session),
        metric_points=SqlMetricPoints(session),
        baselines=SqlBaselines(session, memo),
        comparisons=SqlComparisons(session),
        registry=SqlRegistry(session),
        projects=SqlProjects(session),
        leader_leases=SqlLeaderLeases(session),
        tokens=SqlTokens(session),
        audit=SqlAuditLog(session),
        metrics=SqlMetricsQueries(session),
        retention=SqlRetention(session),
    )
