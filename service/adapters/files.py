"""Folders of runs, datasets and teachers on a file system shared by service and workers."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from configs.atomic_files import write_atomically
from configs.problems import describe_validation
from configs.protocol.names import RunFile
from configs.protocol.records import Record
from configs.spec.dataset import MANIFEST, DatasetManifest
from service.domain.errors import PathRefused

log = structlog.get_logger(__name__)
_RECORDS: TypeAdapter[Record] = TypeAdapter(Record)


class LocalFiles:
    """Implements `ports.Files`."""

    def __init__(self, runs_dir: Path, *, sweeps_dir: Path, roots: Sequence[Path]) -> None:
        self._runs_dir = runs_dir
        self._sweeps_dir = sweeps_dir
        self._roots = tuple(root.resolve() for root in roots)

    def run_dir(self, run_id: str) -> Path:
        return self._runs_dir / run_id

    def sweep_dir(self, sweep_id: str) -> Path:
        return self._sweeps_dir / sweep_id

    def write(self, path: Path, text: str, *, is_secret: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text, mode=0o600 if is_secret else 0o666)

    def manifest(self, root: Path) -> DatasetManifest:
        path = root / MANIFEST
        try:
            return DatasetManifest.model_validate_json(path.read_bytes())
        except OSError as error:
            why = f"it has no {MANIFEST}; import it with `tandem data import-coco` or `import-voc`"
            raise PathRefused("root", root, why) from error
        except ValidationError as error:
            why = f"it is not a dataset manifest: {describe_validation(error, DatasetManifest)}"
            raise PathRefused("root", path, why) from error

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
        return path.is_file()

    def sha256(self, path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

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
        path = self.run_dir(run_id) / RunFile.SPOOL
        if not path.exists():
            return []
        content = path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()[position:]
        records: list[Record] = []
        for line in lines:
            try:
                records.append(_RECORDS.validate_json(line))
            except ValidationError:
                log.warning("spool.invalid_record", run_id=run_id, position=position + len(records))
                break
        return records

    def text(self, path: Path, *, offset: int = 0, limit: int = -1) -> bytes:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
