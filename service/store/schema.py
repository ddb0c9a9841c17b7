"""The revision of the schema, and its migration."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, create_engine, inspect, text
from sqlalchemy.engine import make_url

from service.domain.errors.systems import SchemaUnknown
from service.store.engine import is_sqlite, open_for_changes, open_for_reading, translate_db_errors
from service.store.writers.locks import AdvisoryLock, acquire

VERSION_TABLE = "alembic_version"


@contextmanager
def schema_transaction(url: str) -> Iterator[Connection]:
    """A transaction that changes the schema; only one runs at a time, others wait."""
    engine = open_for_changes(url)
    try:
        with translate_db_errors(), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Several services may start at once: one migrates, the others wait for it.
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                acquire(AdvisoryLock.SCHEMA, connection)
            yield connection
    finally:
        engine.dispose()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Upgrade the schema; raises `SchemaUnknown` if its current revision is unknown."""
    current = current_revision(connection)
    check_known_revision(current)
    if revision == "head" and current == revisions()[-1]:
        return  # Alembic would import every migration to run none
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Downgrade the schema to a revision, or to nothing with `base`."""
    command.downgrade(_config(connection), revision)


def current_revision(connection: Connection) -> str | None:
    """The revision of the schema; None if there is no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


@cache
def revisions() -> tuple[str, ...]:
    """All known revisions, oldest first."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return tuple(script.revision for script in scripts)[::-1]


def check_known_revision(revision: str | None, *, subject: str = "The database") -> None:
    """Raise `SchemaUnknown` if the revision is not one of `revisions()`."""
    known_revisions = revisions()
    if revision is not None and revision not in known_revisions:
        oldest, newest = known_revisions[0], known_revisions[-1]
        raise SchemaUnknown(revision, oldest=oldest, newest=newest, subject=subject)


def describe_database(url: str) -> str:
    """The location of the database, without its password, and its revision.

    Raises `DatabaseUnreachable` if it does not answer, and `SchemaUnknown` for unknown revisions.
    """
    parsed = make_url(url)
    if is_sqlite(url):
        location, exists = f"SQLite, {parsed.database}", Path(parsed.database or "").is_file()
    else:
        location, exists = (
            f"PostgreSQL, {parsed.host}:{parsed.port or 5432}/{parsed.database}",
            True,
        )
    if not exists:
        return f"{location}, not created yet"
    engine = open_for_reading(url)
    try:
        with translate_db_errors(), engine.begin() as connection:
            revision = current_revision(connection)
    finally:
        engine.dispose()
    check_known_revision(revision)
    return f"{location}, " + (f"schema {revision}" if revision else "empty")


@cache
def table_names(revision: str) -> frozenset[str]:
    """The tables of a revision: a database may also have tables of other programs."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        command.upgrade(_config(connection), revision)
        names = frozenset(inspect(connection).get_table_names()) - {VERSION_TABLE}
    engine.dispose()
    return names


def reflect_tables(connection: Connection, names: frozenset[str]) -> list[Table]:
    """Those of the named tables that exist, as they are; referenced tables come first."""
    metadata = MetaData()
    existing = names & set(inspect(connection).get_table_names())
    metadata.reflect(connection, only=sorted(existing))
    return [table for table in metadata.sorted_tables if table.name in existing]


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
