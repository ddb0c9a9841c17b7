"""Which version the schema has, and how it gets another one."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, create_engine, func, inspect, select, text
from sqlalchemy.engine import make_url

from service.domain.errors import SchemaUnknown
from service.store.engine import is_sqlite, open_for_changes, open_for_reading, translate_db_errors

VERSION_TABLE = "alembic_version"
_MIGRATING = 7_410_000
"""PostgreSQL's lock of those that change the schema."""


@contextmanager
def schema_transaction(url: str) -> Iterator[Connection]:
    """One transaction of somebody who changes the schema; others that want to wait."""
    engine = open_for_changes(url)
    try:
        with translate_db_errors(), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Several services may start at once: one migrates, the others find it done.
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATING)))
            yield connection
    finally:
        engine.dispose()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema up; `SchemaUnknown` if we do not know the one there is."""
    check_known_revision(current_revision(connection))
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Bring the schema down to a revision, or to nothing: `base`."""
    command.downgrade(_config(connection), revision)


def current_revision(connection: Connection) -> str | None:
    """The schema's revision; none if there is no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


def revisions() -> list[str]:
    """All revisions that we know, oldest first."""
    found = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in found][::-1]


def check_known_revision(revision: str | None, *, what: str = "The database") -> None:
    """`SchemaUnknown` if another Tandem made it: a newer one, or one before the first release."""
    known = revisions()
    if revision is not None and revision not in known:
        raise SchemaUnknown(revision, oldest=known[0], newest=known[-1], what=what)


def describe_database(url: str) -> str:
    """Which database it is and at which revision, without its password.

    `StoreUnreachable` if it does not answer, `SchemaUnknown` if a newer Tandem made it.
    """
    parsed = make_url(url)
    if is_sqlite(url):
        where, is_there = f"SQLite, {parsed.database}", Path(parsed.database or "").is_file()
    else:
        where, is_there = f"PostgreSQL, {parsed.host}:{parsed.port or 5432}/{parsed.database}", True
    if not is_there:
        return f"{where}, not made yet"
    engine = open_for_reading(url)
    try:
        with translate_db_errors(), engine.begin() as connection:
            revision = current_revision(connection)
    finally:
        engine.dispose()
    check_known_revision(revision)
    return f"{where}, " + (f"schema {revision}" if revision else "empty")


@cache
def table_names(revision: str) -> frozenset[str]:
    """The tables that a revision has: a database may be shared with other programs."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        command.upgrade(_config(connection), revision)
        names = frozenset(inspect(connection).get_table_names()) - {VERSION_TABLE}
    engine.dispose()
    return names


def reflect_tables(connection: Connection, names: frozenset[str]) -> list[Table]:
    """Those of these tables that there are, as they are; what others refer to comes first."""
    found = MetaData()
    there = names & set(inspect(connection).get_table_names())
    found.reflect(connection, only=sorted(there))
    return [table for table in found.sorted_tables if table.name in there]


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
