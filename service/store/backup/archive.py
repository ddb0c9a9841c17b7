"""The file format of a backup, with a digest of everything in it.

A zip file with `manifest.json`, one file of JSON lines for each table, and the files that belong to
the database. Nothing in it depends on the kind of database. Rows are streamed.
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

from service.domain.errors.systems import BackupRefused

Row = dict[str, Any]
_MANIFEST_NAME = "manifest.json"
_CHUNK_BYTES = 2**20
_ZIP_ERRORS = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


class ArchiveMember(BaseModel):
    """A file in a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    rows: int | None = None
    """The number of rows; None if the file is not a table."""


class BackupManifest(BaseModel):
    """The contents of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    tandem: str
    revision: str
    """The revision of the schema that the rows have."""

    kind: str
    """The kind of database that was backed up: `sqlite` or `postgresql`."""

    created_at: AwareDatetime
    tables: dict[str, ArchiveMember]
    files: dict[str, ArchiveMember]

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return sum(member.rows or 0 for member in self.tables.values())


class ArchiveWriter:
    """Writes tables and files into a new backup."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._zip = archive
        self._tables: dict[str, ArchiveMember] = {}
        self._files: dict[str, ArchiveMember] = {}

    def add_table(self, name: str, rows: Iterable[Row]) -> None:
        """Write a table. Tables must be added in an order in which they can be restored."""
        lines = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        self._tables[name] = self._write(f"tables/{name}.jsonl", lines, are_rows=True)

    def add_file(self, name: str, content: bytes) -> None:
        """Write a small file that belongs to the database."""
        self._files[name] = self._write(f"files/{name}", [content], are_rows=False)

    def finish(
        self, *, tandem: str, revision: str, kind: str, created_at: datetime
    ) -> BackupManifest:
        """Write the manifest and return it."""
        manifest = BackupManifest(
            tandem=tandem,
            revision=revision,
            kind=kind,
            created_at=created_at,
            tables=self._tables,
            files=self._files,
        )
        self._zip.writestr(_zip_entry(_MANIFEST_NAME), manifest.model_dump_json(indent=2))
        return manifest

    def _write(self, path: str, chunks: Iterable[bytes], *, are_rows: bool) -> ArchiveMember:
        digest, count = hashlib.sha256(), 0
        with self._zip.open(_zip_entry(path), "w", force_zip64=True) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                count += 1
        return ArchiveMember(path=path, sha256=digest.hexdigest(), rows=count if are_rows else None)


class ArchiveReader:
    """Reads a backup; the digests of all files are verified first."""

    def __init__(self, archive: zipfile.ZipFile, *, path: Path) -> None:
        self._zip = archive
        self._path = path
        self.manifest = self._read_manifest()
        for member in (*self.manifest.tables.values(), *self.manifest.files.values()):
            self._verify(member)

    def table(self, name: str) -> Iterator[Row]:
        """The rows of a table."""
        with self._zip.open(self.manifest.tables[name].path) as file:
            for line in file:
                yield json.loads(line)

    def file(self, name: str) -> bytes:
        """The content of a file that belongs to the database."""
        return self._zip.read(self.manifest.files[name].path)

    def _read_manifest(self) -> BackupManifest:
        try:
            return BackupManifest.model_validate_json(self._zip.read(_MANIFEST_NAME))
        except (KeyError, ValidationError) as error:
            why = "its manifest is missing, or of another version of Tandem"
            raise _damaged(self._path, why) from error

    def _verify(self, member: ArchiveMember) -> None:
        digest = hashlib.sha256()
        try:
            with self._zip.open(member.path) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except KeyError as error:
            raise _damaged(self._path, f"{member.path} is missing") from error
        if digest.hexdigest() != member.sha256:
            raise _damaged(self._path, f"the digest of {member.path} does not match")


@contextmanager
def open_archive(path: Path) -> Iterator[ArchiveReader]:
    """Open a backup; raises `BackupRefused` if the file is damaged or no backup."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise BackupRefused(f"There is no file {path}.") from error
    except _ZIP_ERRORS as error:
        raise _damaged(path, str(error)) from error
    with archive:
        try:
            reader = ArchiveReader(archive, path=path)
        except _ZIP_ERRORS as error:
            raise _damaged(path, str(error)) from error
        yield reader


def _damaged(path: Path, why: str) -> BackupRefused:
    return BackupRefused(
        f"{path} is damaged, or is no backup of Tandem: {why}. Nothing was changed."
    )


def _zip_entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path)
    entry.compress_type = zipfile.ZIP_DEFLATED
    # Only the owner may read the files that unzip creates.
    entry.external_attr = 0o600 << 16
    return entry
