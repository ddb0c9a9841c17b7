"""A backup back into a database of either kind: all of it in one transaction, or nothing."""

import base64
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, DateTime, LargeBinary, Table, func, insert, select, text
from sqlalchemy.exc import DataError, IntegrityError

from service.domain.errors import BackupRefused
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

_ROWS_AT_ONCE = 500
_PASSING = {"leader_leases"}
"""Who does what for the next seconds: nobody misses it."""


def restore_backup(
    url: str,
    path: Path,
    *,
    files: Mapping[str, Path],
    replace: bool,
    on_progress: RowProgressCallback,
) -> BackupManifest:
    """Put a backup back and bring it to the newest schema; the whole file is checked first.

    `BackupRefused` if it is damaged, somebody uses the database, or there is something in the way
    and it is not to be replaced. `files` says where small files beside the database belong.
    """
    with open_archive(path) as archive:
        manifest = archive.manifest
        check_known_revision(manifest.revision, what="The backup")
        kept = {files[name]: archive.file(name) for name in manifest.files if name in files}
        if not replace:
            _require_free(kept)
        with schema_transaction(url) as connection:
            _require_unused(connection)
            _make_room(connection, manifest, replace=replace)
            upgrade(connection, manifest.revision)
            _fill(connection, archive, watch=on_progress)
            upgrade(connection)
            _require_sound(connection)
            unfinished = {target: _unfinished(target, content) for target, content in kept.items()}
        for target, written in unfinished.items():
            written.replace(target)
        return manifest


def _require_free(kept: Mapping[Path, bytes]) -> None:
    for target, content in kept.items():
        if target.exists() and target.read_bytes() != content:
            raise BackupRefused(
                f"{target} is there already and is another one. Move it away, or say --replace."
            )


def _require_unused(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    others = connection.scalar(
        text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = :ours AND pid <> pg_backend_pid()"
        ),
        {"ours": APPLICATION_NAME},
    )
    if others:
        raise BackupRefused(
            f"A service uses the database ({others} connections). Stop every service first."
        )


def _make_room(connection: Connection, manifest: BackupManifest, *, replace: bool) -> None:
    there = current_revision(connection)
    check_known_revision(there)
    names = table_names(manifest.revision) | (table_names(there) if there else frozenset())
    tables = reflect_tables(connection, names)
    if tables and there is None:
        raise BackupRefused(
            f"The database has a table {tables[0].name} that is not Tandem's; choose another one."
        )
    counts = {table.name: _count(connection, table) for table in tables}
    full = [f"{name} {count}" for name, count in counts.items() if count and name not in _PASSING]
    if full and not replace:
        raise BackupRefused(
            f"The database is not empty: {', '.join(full)}. With --replace all of that is lost; "
            "`tandem backup` saves it first."
        )
    for table in reversed(tables):
        table.drop(connection)
    connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))


def _fill(connection: Connection, archive: ArchiveReader, *, watch: RowProgressCallback) -> None:
    manifest = archive.manifest
    tables = reflect_tables(connection, table_names(manifest.revision))
    if {table.name for table in tables} != set(manifest.tables):
        raise BackupRefused(f"The backup does not have the tables of revision {manifest.revision}.")
    for table in tables:
        rows = archive.table(table.name)
        total = manifest.tables[table.name].rows or 0
        try:
            _fill_table(connection, table, rows, total=total, watch=watch)
        except (DataError, IntegrityError) as error:
            why = f"The table {table.name} does not take a row: {driver_message(error)}."
            raise BackupRefused(f"{why} Nothing was changed.") from error
        if connection.dialect.name == "postgresql":
            _count_on(connection, table)


def _fill_table(
    connection: Connection,
    table: Table,
    rows: Iterator[Row],
    *,
    total: int,
    watch: RowProgressCallback,
) -> None:
    readers = {column.name: _reader(column.type) for column in table.columns}
    done = 0
    watch(table.name, 0, total)
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        if set(batch[0]) != set(readers):
            odd = ", ".join(sorted(set(batch[0]) ^ set(readers)))
            raise BackupRefused(f"The table {table.name} has other columns in the backup: {odd}.")
        connection.execute(insert(table), [_read(row, readers) for row in batch])
        done += len(batch)
        watch(table.name, done, total)


def _read(row: Row, readers: Mapping[str, Callable[[Any], Any]]) -> Row:
    return {name: None if value is None else readers[name](value) for name, value in row.items()}


def _reader(kind: Any) -> Callable[[Any], Any]:
    """From JSON's value to the column's."""
    if isinstance(kind, JSON):
        # Nothing is nothing, and not the word `null`.
        kind.none_as_null = True
    if isinstance(kind, DateTime):
        return datetime.fromisoformat
    return base64.b64decode if isinstance(kind, LargeBinary) else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _count_on(connection: Connection, table: Table) -> None:
    """PostgreSQL's own numbers go on after the largest that there is."""
    for column in table.primary_key:
        name = connection.scalar(
            select(func.pg_get_serial_sequence(f'"{table.name}"', column.name))
        )
        if name is not None:
            last = connection.scalar(select(func.max(column)))
            connection.execute(select(func.setval(name, last or 1, last is not None)))


def _require_sound(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.execute(text("PRAGMA foreign_key_check")).first()
        if broken is not None:
            raise BackupRefused(f"A row of {broken[0]} refers to one of {broken[2]} that is not.")


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _unfinished(target: Path, content: bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = target.with_name(target.name + ".unfinished")
    written.unlink(missing_ok=True)
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    return written
