"""Connections to SQLite and PostgreSQL, and what it means when one of them fails."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.pool import NullPool

from service.domain.errors import DatabaseUnreachable, ValueRefused

LOCK_TIMEOUT_S = 20.0
"""How long a transaction waits for what another one holds."""

_AGAIN_AFTER_S = 0.05

APPLICATION_NAME = "tandem"
"""What PostgreSQL calls our connections."""

_CONNECT = {
    "application_name": APPLICATION_NAME,
    "connect_timeout": 5,
    # A server that vanished is noticed; a service that froze holds no locks for ever.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": f"-c lock_timeout={LOCK_TIMEOUT_S:.0f}s -c idle_in_transaction_session_timeout=60s",
    # Plans outlive a migration by another service, and do not pass through a pooler.
    "prepare_threshold": None,
}
_FULL = {"53100", "SQLITE_FULL"}
_HELD = {"55P03", "40P01", "40001", "SQLITE_BUSY", "SQLITE_LOCKED"}
_AWAY = {
    *("25006", "25P03"),
    *("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PROTOCOL"),
    *("SQLITE_NOTADB", "SQLITE_CORRUPT"),
}
_AWAY_CLASSES = ("08", "53", "57", "58")


def replace_nul(text: str) -> str:
    """The text with a visible sign in the place of each NUL."""
    return text.replace("\x00", "\ufffd")


def is_sqlite(url: str) -> bool:
    """Whether the URL is of an SQLite file."""
    return make_url(url).get_backend_name() == "sqlite"


def open_engine(url: str) -> Engine:
    """For the service: pooled connections, each tried before it is handed out."""
    if is_sqlite(url):
        return _open_sqlite(url, begin="BEGIN IMMEDIATE", keys=True)
    return _open_postgresql(url, pool_pre_ping=True, pool_recycle=1800)


def open_for_changes(url: str) -> Engine:
    """For schema changes: SQLite does not look at foreign keys while tables are made anew."""
    if is_sqlite(url):
        return _open_sqlite(url, begin="BEGIN IMMEDIATE", keys=False)
    return _open_postgresql(url, poolclass=NullPool)


def open_for_reading(url: str) -> Engine:
    """For snapshots: a transaction sees one moment and keeps nobody from writing."""
    if is_sqlite(url):
        return _open_sqlite(url, begin="BEGIN", keys=False)
    return open_for_changes(url).execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )


def driver_message(error: DBAPIError) -> str:
    """What the driver says, without the statement and its values."""
    return str(error.orig).strip().partition("\n")[0].rstrip(".")


@contextmanager
def translate_db_errors(*, at_commit: bool = False) -> Iterator[None]:
    """A database that is away, locked or full becomes `DatabaseUnreachable`; faults of ours stay.

    A value that it has no room for is `ValueRefused`.
    """
    try:
        yield
    except NoneFree as error:
        raise DatabaseUnreachable(
            "All connections to the database are in use. Nothing was changed."
        ) from error
    except DataError as error:
        raise ValueRefused(driver_message(error)) from error
    except OverflowError as error:
        # SQLite's driver says it so of a number with more than 64 bits.
        if "SQLite INTEGER" not in str(error):
            raise
        raise ValueRefused(str(error)) from error
    except DBAPIError as error:
        sentence = _sentence(error, at_commit=at_commit)
        if sentence is None:
            raise
        raise DatabaseUnreachable(sentence) from error


def _sentence(error: DBAPIError, *, at_commit: bool) -> str | None:
    """What happened, without the statement and its values; none: a fault of ours."""
    code, cause = _code(error), driver_message(error)
    if code in _FULL:
        return f"There is no room left for the database: {cause}. Nothing was changed."
    if code in _HELD:
        return f"Something else holds the database: {cause}. Nothing was changed."
    if not (error.connection_invalidated or code in _AWAY or code[:2] in _AWAY_CLASSES):
        return None
    if at_commit and not isinstance(error.orig, sqlite3.Error):
        return f"The database went away while it stored the change, which may be there: {cause}."
    return f"The database does not answer: {cause}. Nothing was changed."


def _code(error: DBAPIError) -> str:
    """PostgreSQL's five letters or SQLite's name; "08000" where the connection is all there was."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        name = str(getattr(cause, "sqlite_errorname", ""))
        return "_".join(name.split("_")[:2])
    code = getattr(cause, "sqlstate", None)
    is_operational = type(cause).__name__ in {"OperationalError", "InterfaceError"}
    return str(code) if code else ("08000" if is_operational else "")


class _Words(Dumper):
    """PostgreSQL takes no NUL in text, but what a worker quotes may have one."""

    def dump(self, text: str) -> bytes:
        return replace_nul(text).encode()


def _open_postgresql(url: str, **options: Any) -> Engine:
    asked = make_url(url).query
    arguments = {key: value for key, value in _CONNECT.items() if key not in asked}
    engine = create_engine(
        url,
        connect_args=arguments,
        hide_parameters=True,
        json_serializer=lambda value: json.dumps(_cleaned(value)),
        **options,
    )

    def prepare(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.adapters.register_dumper(str, _Words)

    event.listen(engine, "connect", prepare)
    return engine


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {replace_nul(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return replace_nul(value) if isinstance(value, str) else value


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Change the journal's mode; of two that open a new file at once, SQLite lets none wait."""
    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_AGAIN_AFTER_S)
        else:
            return


def _open_sqlite(url: str, *, begin: str, keys: bool) -> Engine:
    path = make_url(url).database
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, hide_parameters=True)

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # sqlite3 would open transactions by itself, too late to be safe; see DECISIONS 11.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT_S * 1000:.0f}")
        _write_ahead(connection)
        for pragma in (
            "synchronous = NORMAL",
            f"foreign_keys = {'ON' if keys else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine
