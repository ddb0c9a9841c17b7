"""Folders of runs, datasets and teachers on a file system shared by service and workers."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import TypeAdapter, ValidationError

from configs.problems import describe_validation
from configs.protocol.dataset_statistics import STATISTICS, DatasetStatistics
from configs.protocol.image_hashes import IMAGE_HASHES, ImageHashes
from configs.protocol.names import RunFile
from configs.protocol.records import Record
from configs.spec.base import Contract
from configs.spec.dataset import MANIFEST, DatasetManifest
from service.adapters.confined_files import ConfinedFolder, UnconfinedPath
from service.domain.errors.requests import FileTooLarge, PathRefused

_MAX_LINE_BYTES = 2**24
"""Longest line of a spool that is read; a worker's records are far shorter."""

_MAX_STATISTICS_BYTES = 2**24
"""Largest file of statistics that is read; those of COCO have about 100 kB."""

_MAX_FILE_BYTES = 2**26
"""Of a file that is read at once; reports with all their images are far smaller, and so are
manifests, which list classes but no images."""

log = structlog.get_logger(__name__)
ContractT = TypeVar("ContractT", bound=Contract)
_RECORDS: TypeAdapter[Record] = TypeAdapter(Record)


class LocalFiles:
    """Implements `ports.Files`; a path that is refused because of a link is logged."""

    def __init__(self, runs_dir: Path, *, sweeps_dir: Path, roots: Sequence[Path]) -> None:
        self._runs_dir = runs_dir
        self._sweeps_dir = sweeps_dir
        self._roots = tuple(root.resolve() for root in roots)
        folders = [ConfinedFolder(path) for path in (runs_dir, sweeps_dir, *roots, Path("/"))]
        self._folders = sorted(folders, key=lambda folder: folder.depth, reverse=True)

    def run_dir(self, run_id: str) -> Path:
        return self._runs_dir / run_id

    def sweep_dir(self, sweep_id: str) -> Path:
        return self._sweeps_dir / sweep_id

    def write(self, path: Path, text: str, *, is_secret: bool = False) -> None:
        self._confine(path).write_file(path, text, is_secret=is_secret)

    def manifest(self, root: Path) -> DatasetManifest:
        path = root / MANIFEST
        try:
            with self._confine(path).open_file(path) as file:
                if os.fstat(file.fileno()).st_size > _MAX_FILE_BYTES:
                    why = f"it is larger than {_MAX_FILE_BYTES >> 20} MiB, so no import wrote it"
                    raise PathRefused("root", path, why)
                return DatasetManifest.model_validate_json(file.read(_MAX_FILE_BYTES))
        except UnconfinedPath as error:
            raise PathRefused("root", path, "it is a link, or no file") from error
        except OSError as error:
            why = f"it has no {MANIFEST}; import it with `tandem data import-coco` or `import-voc`"
            raise PathRefused("root", root, why) from error
        except ValidationError as error:
            why = f"it is not a dataset manifest: {describe_validation(error, DatasetManifest)}"
            raise PathRefused("root", path, why) from error

    def statistics(self, root: Path) -> DatasetStatistics | None:
        return self._contract(root / STATISTICS, DatasetStatistics, max_bytes=_MAX_STATISTICS_BYTES)

    def image_hashes(self, root: Path) -> ImageHashes | None:
        return self._contract(root / IMAGE_HASHES, ImageHashes, max_bytes=_MAX_FILE_BYTES)

    def _contract(
        self, path: Path, contract: type[ContractT], *, max_bytes: int
    ) -> ContractT | None:
        """The content of a file that workers write; None if there is none, or no valid one."""
        size = self._size_bytes(path)
        if size is None or size > max_bytes:
            return None
        try:
            return contract.model_validate_json(self.text(path), extra="ignore")
        except (OSError, ValidationError) as error:
            log.warning("file.invalid", path=str(path), reason=str(error))
            return None

    def folder(self, path: Path, *, field: str) -> Path:
        resolved = self._resolve(path, field=field)
        if not resolved.is_dir():
            raise PathRefused(field, path, "it is not a folder")
        return resolved

    def file(self, path: Path, *, field: str) -> Path:
        resolved = self._resolve(path, field=field)
        if not resolved.is_file() or not os.access(resolved, os.R_OK):
            raise PathRefused(field, path, "it is not a readable file")
        return resolved

    def check_writable(self) -> None:
        self._runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._runs_dir, buffering=0) as probe:
            probe.write(b"x")

    def free_bytes(self) -> int:
        self._runs_dir.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self._runs_dir).free

    def size_bytes(self) -> int:
        self._runs_dir.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self._runs_dir).total

    def has(self, path: Path) -> bool:
        return self._size_bytes(path) is not None

    def select_existing(self, folder: Path, names: Iterable[str]) -> list[str]:
        try:
            return self._confine(folder).select_files(folder, names)
        except FileNotFoundError:
            return []
        except UnconfinedPath as error:
            log.warning("file.refused", path=str(folder), reason=error.strerror)
            return []

    def sha256(self, path: Path) -> str | None:
        with self._open(path) as file:
            return None if file is None else hashlib.file_digest(file, "sha256").hexdigest()

    def _resolve(self, path: Path, *, field: str) -> Path:
        try:
            resolved = path.expanduser().resolve()
            exists = resolved.exists()
        except (ValueError, OSError, RuntimeError) as error:
            raise PathRefused(field, path, f"it is not a valid path: {error}") from error
        if not any(resolved.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots)
            why = f"it is outside of {allowed}; add its folder to TANDEM_ALLOWED_ROOTS"
            raise PathRefused(field, path, why)
        if not exists:
            raise PathRefused(field, path, "it does not exist")
        return resolved

    def spool_records(self, run_id: str, position: int) -> list[Record]:
        """Records of a run's spool from `position` on, up to the first invalid line."""
        records: list[Record] = []
        with self._open(self.run_dir(run_id) / RunFile.SPOOL) as file:
            for index, line in enumerate(() if file is None else _read_lines(file)):
                if index < position:
                    continue
                try:
                    records.append(_RECORDS.validate_json(line, extra="ignore"))
                except ValidationError:
                    log.warning("spool.invalid_record", run_id=run_id, position=index)
                    break
        return records

    def length_bytes(self, path: Path) -> int:
        return self._size_bytes(path) or 0

    def text(self, path: Path) -> bytes:
        with self._open(path) as file:
            if file is None:
                return b""
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes > _MAX_FILE_BYTES:
                raise FileTooLarge(path, size_bytes=size_bytes, max_bytes=_MAX_FILE_BYTES)
            return file.read(_MAX_FILE_BYTES)

    def part(self, path: Path, *, offset: int = 0, limit: int) -> bytes:
        with self._open(path) as file:
            if file is None:
                return b""
            file.seek(offset)
            return file.read(limit)

    def _size_bytes(self, path: Path) -> int | None:
        """The size of a file; None if it is missing, or not a regular file."""
        try:
            return self._confine(path).size_bytes(path)
        except FileNotFoundError:
            return None
        except UnconfinedPath as error:
            log.warning("file.refused", path=str(path), reason=error.strerror)
            return None

    @contextmanager
    def _open(self, path: Path) -> Iterator[BufferedReader | None]:
        """Open a file to read it; yields None if it is missing, or not a regular file."""
        try:
            file = self._confine(path).open_file(path)
        except FileNotFoundError:
            yield None
            return
        except UnconfinedPath as error:
            log.warning("file.refused", path=str(path), reason=error.strerror)
            yield None
            return
        with file:
            yield file

    def _confine(self, path: Path) -> ConfinedFolder:
        """The innermost trusted folder that contains `path`."""
        return next(folder for folder in self._folders if folder.contains(path))


def _read_lines(file: BufferedReader) -> Iterator[bytes]:
    """The complete lines of a spool, up to one that is too long for a record."""
    while (line := file.readline(_MAX_LINE_BYTES)).endswith(b"\n"):
        yield line
