"""The engine, its migrations, and one transaction at a time."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from service.domain.errors import StoreUnreachable
from service.store.access import SqlAudit, SqlTokens
from service.store.attempts import SqlAttempts
from service.store.figures import SqlFigures
from service.store.records import SqlEvents, SqlPoints, SqlRegistry
from service.store.runs import SqlRuns
from service.store.sharing import SqlDuties, SqlProjects

_BUSY_TIMEOUT_MS = 20_000
_MIGRATING = 7_410_000
"""PostgreSQL's lock of those that change the schema."""


@dataclass(frozen=True)
class SqlUnit:
    """Implements `stored.Unit`."""

    runs: SqlRuns
    attempts: SqlAttempts
    events: SqlEvents
    points: SqlPoints
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
        path = make_url(url).database
        if url.startswith("sqlite") and path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(url, **_engine_kind(url))
        if url.startswith("sqlite"):
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_immediate)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    def migrate(self) -> None:
        """Bring the schema to the newest version."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("sqlalchemy.url", self._url.replace("%", "%%"))
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Several services may start at once: one migrates, the others find it done.
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATING)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def begin(self) -> Iterator[SqlUnit]:
        """One transaction: committed at the end, rolled back on an error.

        `StoreUnreachable` if the database goes away under it.
        """
        try:
            with self._sessions.begin() as session:
                yield _unit(session)
        except (OperationalError, InterfaceError) as error:
            raise StoreUnreachable(f"The database does not answer: {_cause(error)}") from error

    def another(self) -> "Database":
        """The same database over connections of its own: for another service process."""
        return Database(self._url)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _engine_kind(url: str) -> dict[str, Any]:
    # A connection may have died since its last use: it is tried before it is handed out.
    return {} if url.startswith("sqlite") else {"pool_pre_ping": True, "pool_recycle": 1800}


def _cause(error: DBAPIError) -> str:
    """What the driver says, without the statement and its values."""
    return str(error.orig).strip().partition("\n")[0]


def _unit(session: Session) -> SqlUnit:
    return SqlUnit(
        runs=SqlRuns(session),
        attempts=SqlAttempts(session),
        events=SqlEvents(session),
        points=SqlPoints(session),
        registry=SqlRegistry(session),
        projects=SqlProjects(session),
        duties=SqlDuties(session),
        tokens=SqlTokens(session),
        audit=SqlAudit(session),
        figures=SqlFigures(session),
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    # sqlite3 would open transactions by itself, too late to be safe; see _begin_immediate.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Any) -> None:
    # A transaction that reads first and writes later can fail as busy; one that locks first waits.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
