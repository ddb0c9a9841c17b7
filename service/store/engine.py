"""Engines for SQLite and PostgreSQL, and the translation of their errors."""

import json
import os
import select
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from sqlalchemy import create_engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import DataError, DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool

from service.domain.errors.requests import ValueRefused
from service.domain.errors.systems import DatabaseUnreachable

LOCK_TIMEOUT_S = 20.0
"""How long a transaction waits for the locks of others."""

MAX_IDS = 10_000
"""Ids that one statement has as parameters: SQLite allows 32,766."""

_RETRY_DELAY_S = 0.05
_SQLITE_POOL = {"pool_size": 16, "max_overflow": 64}
"""More connections than a service has threads, so that no reader waits for another."""

_MAX_UNCHECKED_IDLE_S = 10.0
_POSTGRESQL_POOL = {"pool_size": 20, "max_overflow": 0, "pool_recycle": 1800}
"""An overflow would be closed at its return and opened again for the next request: each time a
process of the server, and a password check of some milliseconds on both sides."""


APPLICATION_NAME = "tandem"
"""The name of our connections in PostgreSQL."""

_CONNECT_ARGS = {
    "application_name": APPLICATION_NAME,
    "connect_timeout": 5,
    # Notice a server that vanished, and keep a service that froze from holding locks forever.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": f"-c lock_timeout={LOCK_TIMEOUT_S:.0f}s -c idle_in_transaction_session_timeout=60s",
    # Prepared plans outlive a migration by another service, and poolers do not support them.
    "prepare_threshold": None,
}
_DISK_FULL_CODES = {"53100", "SQLITE_FULL"}
_LOCKED_CODES = {"55P03", "40P01", "40001", "SQLITE_BUSY", "SQLITE_LOCKED"}
_UNREACHABLE_CODES = {
    *("25006", "25P03"),
    *("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PROTOCOL"),
    *("SQLITE_NOTADB", "SQLITE_CORRUPT"),
}
_UNREACHABLE_CLASSES = ("08", "53", "57", "58")
_READ_ONLY_CODES = {"25006", "SQLITE_READONLY"}


def replace_nul(text: str) -> str:
    """The text with each NUL replaced by U+FFFD."""
    return text.replace("\x00", "\ufffd")


def replace_nuls(value: Any) -> Any:
    """A document with each NUL replaced by U+FFFD, in all levels."""
    if isinstance(value, dict):
        return {replace_nul(key): replace_nuls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_nuls(item) for item in value]
    return replace_nul(value) if isinstance(value, str) else value


def is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def open_engine(url: str) -> Engine:
    """For writing transactions of the service: pooled connections, each checked before use."""
    if is_sqlite(url):
        return _open_sqlite(url, begin="BEGIN IMMEDIATE", has_foreign_keys=True)
    engine = _open_postgresql(url, **_POSTGRESQL_POOL)
    _check_connections(engine)
    return engine


def open_snapshot_engine(engine: Engine) -> Engine:
    """For the service's reading transactions on the database of `engine`: the database refuses to
    write in them. On PostgreSQL both share their connections."""
    if engine.dialect.name == "sqlite":
        return _open_sqlite(engine.url, begin="BEGIN", has_foreign_keys=False, is_read_only=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def open_for_changes(url: str) -> Engine:
    """For schema changes: SQLite does not enforce foreign keys while tables are recreated."""
    if is_sqlite(url):
        return _open_sqlite(url, begin="BEGIN IMMEDIATE", has_foreign_keys=False)
    return _open_postgresql(url, poolclass=NullPool)


def open_for_reading(url: str) -> Engine:
    """For backups: a transaction sees one snapshot and does not block writers."""
    if is_sqlite(url):
        return _open_sqlite(url, begin="BEGIN", has_foreign_keys=False)
    return open_for_changes(url).execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )


def driver_message(error: DBAPIError) -> str:
    """The first line of the driver's error, without the statement and its values."""
    return str(error.orig).strip().partition("\n")[0].rstrip(".")


class WriteInSnapshot(RuntimeError):
    """A use case writes in a reading transaction, which is a bug."""

    def __init__(self) -> None:
        super().__init__("A snapshot only reads: write in Store.transaction().")


@contextmanager
def refuse_writes() -> Iterator[None]:
    """Raise `WriteInSnapshot` where the database refuses to write in a reading transaction."""
    try:
        yield
    except DBAPIError as error:
        cause = error.orig
        code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
        if code not in _READ_ONLY_CODES:  # not those of a file that cannot be opened for writing
            raise
        raise WriteInSnapshot from error


@contextmanager
def translate_db_errors(*, at_commit: bool = False) -> Iterator[None]:
    """Raise `DatabaseUnreachable` if the database is unreachable, locked or full.

    A value that is too large for its column raises `ValueRefused`. Other errors pass unchanged.
    """
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnreachable(
            "All connections to the database are in use. Nothing was changed."
        ) from error
    except DataError as error:
        raise ValueRefused(driver_message(error)) from error
    except OverflowError as error:
        # The SQLite driver raises this for an integer with more than 64 bits.
        if "SQLite INTEGER" not in str(error):
            raise
        raise ValueRefused(str(error)) from error
    except DBAPIError as error:
        message = _unreachable_message(error, at_commit=at_commit)
        if message is None:
            raise
        raise DatabaseUnreachable(message) from error


def _unreachable_message(error: DBAPIError, *, at_commit: bool) -> str | None:
    """Why the database cannot be used, without the statement; None if the error is a bug."""
    code, cause = _error_code(error), driver_message(error)
    if code in _DISK_FULL_CODES:
        return f"The disk of the database is full: {cause}. Nothing was changed."
    if code in _LOCKED_CODES:
        return f"Another transaction locks the database: {cause}. Nothing was changed."
    if not (
        error.connection_invalidated
        or code in _UNREACHABLE_CODES
        or code[:2] in _UNREACHABLE_CLASSES
    ):
        return None
    if at_commit and not isinstance(error.orig, sqlite3.Error):
        return f"The database went away during the commit, which may have succeeded: {cause}."
    return f"The database does not answer: {cause}. Nothing was changed."


def _error_code(error: DBAPIError) -> str:
    """PostgreSQL's SQLSTATE or SQLite's error name; "08000" if a connection failed without one."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        name = str(getattr(cause, "sqlite_errorname", ""))
        return "_".join(name.split("_")[:2])
    code = getattr(cause, "sqlstate", None)
    is_lost = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return str(code) if code else ("08000" if is_lost else "")


class _SqliteCompiler(SQLiteCompiler):
    """Writes a condition `IN` an empty list as `IN ()`, with which SQLite reads no row. Instead of
    it, SQLAlchemy writes a subquery, for which SQLite reads the whole table."""

    def visit_empty_set_op_expr(self, *_: object, **_options: object) -> str:
        return ""


class _NulReplacingDumper(Dumper):
    """Replaces NULs, which PostgreSQL rejects in text, but which a worker's output may have."""

    def dump(self, text: str) -> bytes:
        return replace_nul(text).encode()


def _open_postgresql(url: str, **options: Any) -> Engine:
    url_options = make_url(url).query
    connect_args = {key: value for key, value in _CONNECT_ARGS.items() if key not in url_options}
    engine = create_engine(
        url,
        connect_args=connect_args,
        hide_parameters=True,
        json_serializer=lambda value: json.dumps(replace_nuls(value)),
        json_deserializer=_parse_json,
        **options,
    )

    def prepare(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.adapters.register_dumper(str, _NulReplacingDumper)

    event.listen(engine, "connect", prepare)
    return engine


def _check_connections(engine: Engine) -> None:
    """Check each pooled connection before use, as `pool_pre_ping` does, but ask the server only if
    the connection was idle for long or its socket has something to read: a closing server sends a
    message. It saves a round trip in each transaction."""

    def check(connection: Any, record: Any, _proxy: object) -> None:
        idle_s = time.monotonic() - record.info.get("returned_at_s", 0.0)
        if idle_s < _MAX_UNCHECKED_IDLE_S and not _is_readable(connection.fileno()):
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise InvalidatePoolError from error

    def note_return(_connection: object, record: Any) -> None:
        record.info["returned_at_s"] = time.monotonic()

    event.listen(engine, "checkout", check)
    event.listen(engine, "checkin", note_return)


def _is_readable(file_descriptor: int) -> bool:
    poll = select.poll()
    poll.register(file_descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _parse_json(document: str | bytes) -> Any:
    """Most documents are the empty objects of queued runs, of which a turn reads thousands."""
    return {} if document in ("{}", b"{}") else json.loads(document)


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. SQLite does not apply its busy timeout here, so retry."""
    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_RETRY_DELAY_S)
        else:
            return


def _create_private_file(path: Path) -> None:
    """Create a missing database, with its folder, for this user only; SQLite's default is 0644."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):  # it exists, or connecting reports why it cannot be created
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _open_sqlite(
    url: str | URL, *, begin: str, has_foreign_keys: bool, is_read_only: bool = False
) -> Engine:
    path = make_url(url).database
    if path:
        _create_private_file(Path(path))
    engine = create_engine(url, hide_parameters=True, json_deserializer=_parse_json, **_SQLITE_POOL)
    engine.dialect.statement_compiler = _SqliteCompiler

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # Keep sqlite3 from opening transactions by itself, which is too late; see DECISIONS 11.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT_S * 1000:.0f}")
        _enable_wal(connection)
        for pragma in (
            "synchronous = NORMAL",
            f"foreign_keys = {'ON' if has_foreign_keys else 'OFF'}",
            f"query_only = {'ON' if is_read_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine
