"""The store: its migrations, and one transaction at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from service.store.access import SqlAudit, SqlTokens
from service.store.attempts import SqlAttempts
from service.store.baselines import SqlComparisons, SqlTwins
from service.store.engine import open_engine, told_plainly
from service.store.events import SqlEvents
from service.store.leases import SqlDuties
from service.store.metric_points import SqlPoints
from service.store.metrics import SqlFigures
from service.store.projects import SqlProjects
from service.store.registry import SqlRegistry
from service.store.runs import SqlRuns
from service.store.schema import changing, upgrade
from service.store.sweeps import SqlSweeps


@dataclass(frozen=True)
class SqlUnit:
    """Implements `stored.Unit`."""

    runs: SqlRuns
    sweeps: SqlSweeps
    attempts: SqlAttempts
    events: SqlEvents
    points: SqlPoints
    twins: SqlTwins
    comparisons: SqlComparisons
    registry: SqlRegistry
    projects: SqlProjects
    duties: SqlDuties
    tokens: SqlTokens
    audit: SqlAudit
    figures: SqlFigures


class Database:
    """Implements `stored.Store` over SQLite (in WAL mode) or PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = open_engine(url)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    def migrate(self) -> None:
        """Bring the schema to the newest version; `SchemaUnknown` if a newer Tandem made it."""
        with changing(self._url) as connection:
            upgrade(connection)

    @contextmanager
    def begin(self) -> Iterator[SqlUnit]:
        """One transaction: committed at the end, rolled back on an error.

        `StoreUnreachable` if the database goes away under it, is locked or full. Nothing is tried
        again in here, not even after a deadlock: what is in the `with` can only be run once.
        """
        with told_plainly(), self._sessions() as session:
            yield _unit(session)
            with told_plainly(at_commit=True):
                session.commit()

    def another(self) -> "Database":
        """The same database over connections of its own: for another service process."""
        return Database(self._url)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _unit(session: Session) -> SqlUnit:
    return SqlUnit(
        runs=SqlRuns(session),
        sweeps=SqlSweeps(session),
        attempts=SqlAttempts(session),
        events=SqlEvents(session),
        points=SqlPoints(session),
        twins=SqlTwins(session),
        comparisons=SqlComparisons(session),
        registry=SqlRegistry(session),
        projects=SqlProjects(session),
        duties=SqlDuties(session),
        tokens=SqlTokens(session),
        audit=SqlAudit(session),
        figures=SqlFigures(session),
    )
