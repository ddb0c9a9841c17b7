"""A backup as a file: which tables with how many rows, and that it is as it was written.

A zip with `manifest.json`, one file of JSON lines for every table, and files that are kept beside
the database. Nothing in it depends on the kind of database. Rows stream, however many there are.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from service.domain.errors import BackupRefused

Row = dict[str, Any]
_MANIFEST = "manifest.json"
_CHUNK = 2**20
_UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class ArchiveMember(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    rows: int | None = None
    """Of a table; none: it is no table."""


class BackupManifest(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    tandem: str
    revision: str
    """Of the schema that the rows fit."""

    kind: str
    """Of the database that they come from."""

    created_at: AwareDatetime
    tables: dict[str, ArchiveMember]
    files: dict[str, ArchiveMember]

    @property
    def rows(self) -> int:
        """Of all tables together."""
        return sum(member.rows or 0 for member in self.tables.values())


class ArchiveWriter:
    """Puts tables and files into a new backup."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._zip = archive
        self._tables: dict[str, ArchiveMember] = {}
        self._files: dict[str, ArchiveMember] = {}

    def add_table(self, name: str, rows: Iterable[Row]) -> None:
        """A table's rows, in an order in which they can be put back."""
        lines = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        self._tables[name] = self._written(f"tables/{name}.jsonl", lines, are_rows=True)

    def add_file(self, name: str, content: bytes) -> None:
        """A small file that belongs to the database."""
        self._files[name] = self._written(f"files/{name}", [content], are_rows=False)

    def finish(
        self, *, tandem: str, revision: str, kind: str, created_at: datetime
    ) -> BackupManifest:
        """Write down what it holds."""
        manifest = BackupManifest(
            tandem=tandem,
            revision=revision,
            kind=kind,
            created_at=created_at,
            tables=self._tables,
            files=self._files,
        )
        self._zip.writestr(_entry(_MANIFEST), manifest.model_dump_json(indent=2))
        return manifest

    def _written(self, path: str, pieces: Iterable[bytes], *, are_rows: bool) -> ArchiveMember:
        digest, count = hashlib.sha256(), 0
        with self._zip.open(_entry(path), "w", force_zip64=True) as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
                count += 1
        return ArchiveMember(path=path, sha256=digest.hexdigest(), rows=count if are_rows else None)


class ArchiveReader:
    """Reads a backup that is whole: every file is compared with its digest first."""

    def __init__(self, archive: zipfile.ZipFile, *, path: Path) -> None:
        self._zip = archive
        self._path = path
        self.manifest = self._manifest()
        for member in (*self.manifest.tables.values(), *self.manifest.files.values()):
            self._compare(member)

    def table(self, name: str) -> Iterator[Row]:
        """A table's rows."""
        with self._zip.open(self.manifest.tables[name].path) as file:
            for line in file:
                yield json.loads(line)

    def file(self, name: str) -> bytes:
        """A file that was kept beside the database."""
        return self._zip.read(self.manifest.files[name].path)

    def _manifest(self) -> BackupManifest:
        try:
            return BackupManifest.model_validate_json(self._zip.read(_MANIFEST))
        except (KeyError, ValidationError) as error:
            raise _damaged(self._path, "it has no manifest that can be read") from error

    def _compare(self, member: ArchiveMember) -> None:
        digest = hashlib.sha256()
        try:
            with self._zip.open(member.path) as file:
                while piece := file.read(_CHUNK):
                    digest.update(piece)
        except KeyError as error:
            raise _damaged(self._path, f"{member.path} is missing") from error
        if digest.hexdigest() != member.sha256:
            raise _damaged(self._path, f"{member.path} is not as it was written")


@contextmanager
def open_archive(path: Path) -> Iterator[ArchiveReader]:
    """A backup to read; `BackupRefused` if it is none, or damaged."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise BackupRefused(f"There is no file {path}.") from error
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from error
    with archive:
        try:
            reader = ArchiveReader(archive, path=path)
        except _UNREADABLE as error:
            raise _damaged(path, str(error)) from error
        yield reader


def _damaged(path: Path, why: str) -> BackupRefused:
    return BackupRefused(f"{path} is damaged or no backup of Tandem: {why}. Nothing was changed.")


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path)
    entry.compress_type = zipfile.ZIP_DEFLATED
    # Whoever unpacks it by hand gets files that nobody else reads.
    entry.external_attr = 0o600 << 16
    return entry
