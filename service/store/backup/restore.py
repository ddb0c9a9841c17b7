"""Restores a backup into a database of either kind, in one transaction."""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, DateTime, LargeBinary, Table, func, insert, select, text
from sqlalchemy.exc import DataError, IntegrityError

from configs.atomic_files import open_atomically
from service.domain.errors.systems import BackupRefused
from service.store.backup.archive import ArchiveReader, BackupManifest, Row, open_archive
from service.store.backup.dump import RowProgressCallback
from service.store.engine import APPLICATION_NAME, driver_message
from service.store.schema import (
    VERSION_TABLE,
    check_known_revision,
    current_revision,
    reflect_tables,
    schema_transaction,
    table_names,
    upgrade,
)

_ROWS_PER_BATCH = 500
_EPHEMERAL_TABLES = {"leader_leases"}
"""Tables whose rows expire within seconds, so that they may be overwritten."""


def restore_backup(
    url: str,
    path: Path,
    *,
    files: Mapping[str, Path],
    replace: bool,
    on_progress: RowProgressCallback,
) -> BackupManifest:
    """Restore a backup and upgrade it to the newest schema; the whole file is verified first.

    Raises `BackupRefused` if it is damaged, if a service uses the database, or if something would
    be overwritten without `replace`. `files` are the targets of the files in the backup.
    """
    # Files are replaced when their stack is closed, which is after the transaction's commit.
    with open_archive(path) as archive, ExitStack() as replaced_files:
        manifest = archive.manifest
        check_known_revision(manifest.revision, subject="The backup")
        contents = {files[name]: archive.file(name) for name in manifest.files if name in files}
        if not replace:
            _check_targets_free(contents)
        with schema_transaction(url) as connection:
            _check_unused(connection)
            _clear_database(connection, manifest, replace=replace)
            upgrade(connection, manifest.revision)
            _restore_tables(connection, archive, on_progress=on_progress)
            upgrade(connection)
            _check_foreign_keys(connection)
            for target, content in contents.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                file = replaced_files.enter_context(open_atomically(target, mode=0o600))
                file.write(content)
                file.flush()  # so that a full disk rolls the transaction back
        return manifest


def _check_targets_free(contents: Mapping[Path, bytes]) -> None:
    for target, content in contents.items():
        if target.exists() and target.read_bytes() != content:
            raise BackupRefused(
                f"{target} exists already and differs. Move it away, or use --replace."
            )


def _check_unused(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    connections = connection.scalar(
        text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = :ours AND pid <> pg_backend_pid()"
        ),
        {"ours": APPLICATION_NAME},
    )
    if connections:
        raise BackupRefused(
            f"A service uses the database ({connections} connections). Stop every service first."
        )


def _clear_database(connection: Connection, manifest: BackupManifest, *, replace: bool) -> None:
    existing = current_revision(connection)
    check_known_revision(existing)
    names = table_names(manifest.revision) | (table_names(existing) if existing else frozenset())
    tables = reflect_tables(connection, names)
    if tables and existing is None:
        raise BackupRefused(
            f"The database has a table {tables[0].name} that is not Tandem's; choose another one."
        )
    counts = {table.name: _count_rows(connection, table) for table in tables}
    not_empty = [
        f"{name} {count}"
        for name, count in counts.items()
        if count and name not in _EPHEMERAL_TABLES
    ]
    if not_empty and not replace:
        raise BackupRefused(
            f"The database is not empty: {', '.join(not_empty)}. --replace overwrites all of it; "
            "run `tandem backup` first to keep it."
        )
    for table in reversed(tables):
        table.drop(connection)
    connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))


def _restore_tables(
    connection: Connection, archive: ArchiveReader, *, on_progress: RowProgressCallback
) -> None:
    manifest = archive.manifest
    tables = reflect_tables(connection, table_names(manifest.revision))
    if {table.name for table in tables} != set(manifest.tables):
        raise BackupRefused(f"The backup does not have the tables of revision {manifest.revision}.")
    for table in tables:
        rows = archive.table(table.name)
        total = manifest.tables[table.name].rows or 0
        try:
            _restore_table(connection, table, rows, total=total, on_progress=on_progress)
        except (DataError, IntegrityError) as error:
            why = f"The table {table.name} rejects a row: {driver_message(error)}."
            raise BackupRefused(f"{why} Nothing was changed.") from error
        if connection.dialect.name == "postgresql":
            _set_sequences(connection, table)


def _restore_table(
    connection: Connection,
    table: Table,
    rows: Iterator[Row],
    *,
    total: int,
    on_progress: RowProgressCallback,
) -> None:
    readers = {column.name: _reader(column.type) for column in table.columns}
    done = 0
    on_progress(table.name, 0, total)
    while batch := list(islice(rows, _ROWS_PER_BATCH)):
        if set(batch[0]) != set(readers):
            differing = ", ".join(sorted(set(batch[0]) ^ set(readers)))
            raise BackupRefused(
                f"The table {table.name} has other columns in the backup: {differing}."
            )
        connection.execute(insert(table), [_parse_row(row, readers) for row in batch])
        done += len(batch)
        on_progress(table.name, done, total)


def _parse_row(row: Row, readers: Mapping[str, Callable[[Any], Any]]) -> Row:
    return {name: None if value is None else readers[name](value) for name, value in row.items()}


def _reader(kind: Any) -> Callable[[Any], Any]:
    """A function that converts a value from JSON to the type of a column."""
    if isinstance(kind, JSON):
        # Store None as NULL, and not as the JSON value `null`.
        kind.none_as_null = True
    if isinstance(kind, DateTime):
        return datetime.fromisoformat
    return base64.b64decode if isinstance(kind, LargeBinary) else _identity


def _identity(value: Any) -> Any:
    return value


def _set_sequences(connection: Connection, table: Table) -> None:
    """Let PostgreSQL's sequences continue after the largest restored value."""
    for column in table.primary_key:
        name = connection.scalar(
            select(func.pg_get_serial_sequence(f'"{table.name}"', column.name))
        )
        if name is not None:
            last = connection.scalar(select(func.max(column)))
            connection.execute(select(func.setval(name, last or 1, last is not None)))


def _check_foreign_keys(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.execute(text("PRAGMA foreign_key_check")).first()
        if broken is not None:
            message = f"A row of {broken[0]} refers to a row of {broken[2]} that is missing."
            raise BackupRefused(message)


def _count_rows(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0
