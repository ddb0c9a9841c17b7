"""The database as the store of the service: its schema and its transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from service.store.access import SqlAuditLog, SqlTokens
from service.store.attempts import SqlAttempts
from service.store.baselines import SqlBaselines, SqlComparisons
from service.store.engine import open_engine, translate_db_errors
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


@dataclass(frozen=True)
class SqlUnitOfWork:
    """Implements `UnitOfWork`."""

    runs: SqlRuns
    sweeps: SqlSweeps
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
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    def migrate(self) -> None:
        with schema_transaction(self._url) as connection:
            upgrade(connection)

    @contextmanager
    def transaction(self) -> Iterator[SqlUnitOfWork]:
        """A transaction, as `Store` says.

        Nothing is retried, not even after a deadlock: the body of the `with` cannot run twice.
        """
        with translate_db_errors(), self._sessions() as session:
            yield _unit_of_work(session)
            apply_changes(session)
            with translate_db_errors(at_commit=True):
                session.commit()

    def clone(self) -> "Database":
        """The same database with separate connections, as another service process has them."""
        return Database(self._url)

    def close(self) -> None:
        self._engine.dispose()


def _unit_of_work(session: Session) -> SqlUnitOfWork:
    return SqlUnitOfWork(
        runs=SqlRuns(session),
        sweeps=SqlSweeps(session),
        idempotency_keys=SqlIdempotencyKeys(session),
        attempts=SqlAttempts(session),
        events=SqlEvents(session),
        metric_points=SqlMetricPoints(session),
        baselines=SqlBaselines(session),
        comparisons=SqlComparisons(session),
        registry=SqlRegistry(session),
        projects=SqlProjects(session),
        leader_leases=SqlLeaderLeases(session),
        tokens=SqlTokens(session),
        audit=SqlAuditLog(session),
        metrics=SqlMetricsQueries(session),
        retention=SqlRetention(session),
    )
