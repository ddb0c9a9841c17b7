"""Writes a backup: a snapshot of the whole database, while services continue to write."""

import base64
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.engine import make_url

from configs.atomic_files import open_atomically
from service.domain.errors.systems import BackupRefused
from service.store.backup.archive import ArchiveWriter, BackupManifest, Row
from service.store.engine import is_sqlite, open_for_reading, translate_db_errors
from service.store.schema import check_known_revision, current_revision, reflect_tables, table_names

RowProgressCallback = Callable[[str, int, int], None]
"""Called with the table, how many of its rows are done, and how many it has."""

_ROWS_PER_BATCH = 500


def write_backup(
    url: str,
    target: Path | BinaryIO,
    *,
    files: Mapping[str, Path],
    at: datetime,
    on_progress: RowProgressCallback,
) -> BackupManifest:
    """Write a backup; raises `BackupRefused` if the file exists, or if there is no database.

    `target` is a new file, or a stream such as a pipe: if writing to it fails, what it has received
    is no valid backup. `files` are small files that belong to the database; those that exist are
    included.
    """
    _check_database_exists(url)
    engine = open_for_reading(url)
    try:
        with (
            _open_target(target) as file,
            zipfile.ZipFile(file, "w") as archive,
            translate_db_errors(),
            engine.begin() as connection,
        ):
            revision = current_revision(connection)
            if revision is None:
                raise _no_database(url)
            check_known_revision(revision)
            writer = ArchiveWriter(archive)
            for table in reflect_tables(connection, table_names(revision)):
                writer.add_table(table.name, _rows(connection, table, on_progress=on_progress))
            for name, source in files.items():
                if source.is_file():
                    writer.add_file(name, source.read_bytes())
            kind = connection.dialect.name
            tandem = version("tandem-distill")
            return writer.finish(tandem=tandem, revision=revision, kind=kind, created_at=at)
    finally:
        engine.dispose()


def _check_database_exists(url: str) -> None:
    file = make_url(url).database
    if is_sqlite(url) and not (file and Path(file).is_file()):
        raise _no_database(url)


def _no_database(url: str) -> BackupRefused:
    location = make_url(url).render_as_string(hide_password=True)
    return BackupRefused(f"There is no database of Tandem at {location}, so nothing was written.")


def _open_target(target: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return _new_private_file(target) if isinstance(target, Path) else nullcontext(target)


@contextmanager
def _new_private_file(path: Path) -> Iterator[BinaryIO]:
    """A file that only its owner may read; it gets its name once it is complete."""
    if path.exists():
        raise BackupRefused(f"{path} exists already; choose another name, or move it away.")
    try:
        with open_atomically(path, mode=0o600) as file:
            yield file
    except OSError as error:
        raise BackupRefused(f"{path} cannot be written: {error.strerror}.") from error


def _rows(
    connection: Connection, table: Table, *, on_progress: RowProgressCallback
) -> Iterator[Row]:
    total = connection.scalar(select(func.count()).select_from(table)) or 0
    query = select(table).order_by(*table.primary_key)
    streaming = connection.execution_options(yield_per=_ROWS_PER_BATCH)
    on_progress(table.name, 0, total)
    for number, row in enumerate(streaming.execute(query).mappings(), start=1):
        yield {name: _to_json(value) for name, value in row.items()}
        if number % _ROWS_PER_BATCH == 0 or number == total:
            on_progress(table.name, number, total)


def _to_json(value: Any) -> Any:
    """A value in JSON; `json.dumps` rejects types that are missing here."""
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
