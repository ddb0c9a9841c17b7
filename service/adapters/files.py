"""Folders of runs, datasets and teachers on a file system that service and workers share."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from configs.spec import MANIFEST, DatasetManifest, Record, RunFile
from service.domain.errors import PathRefused

_RECORDS: TypeAdapter[Record] = TypeAdapter(Record)


class LocalFiles:
    """Implements `ports.Files`."""

    def __init__(self, runs_dir: Path, *, roots: Sequence[Path]) -> None:
        self._runs_dir = runs_dir
        self._roots = tuple(root.resolve() for root in roots)

    def run_dir(self, run_id: str) -> Path:
        """A run's folder."""
        return self._runs_dir / run_id

    def write(self, path: Path, text: str) -> None:
        """Write a whole file or none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)

    def manifest(self, root: Path) -> DatasetManifest:
        """The manifest in a dataset's folder."""
        path = root / MANIFEST
        try:
            return DatasetManifest.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            why = f"it has no {MANIFEST}; import it with `tandem data import-coco` or `import-voc`"
            raise PathRefused("root", root, why) from error
        except ValidationError as error:
            raise PathRefused("root", path, f"it is not a dataset manifest: {error}") from error

    def within_roots(self, path: Path, *, field: str) -> Path:
        """The path with every link followed; it must exist and lie in an allowed folder."""
        resolved = path.expanduser().resolve()
        if not any(resolved.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots)
            why = f"it lies outside of {allowed}; add its folder to TANDEM_ALLOWED_ROOTS"
            raise PathRefused(field, path, why)
        if not resolved.exists():
            raise PathRefused(field, path, "there is nothing")
        return resolved

    def spool_records(self, run_id: str, position: int) -> list[Record]:
        """Records of a run's spool from `position` on; a torn last line is left out."""
        path = self.run_dir(run_id) / RunFile.SPOOL
        if not path.exists():
            return []
        content = path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()[position:]
        return [_RECORDS.validate_json(line) for line in lines]

    def text(self, path: Path, *, offset: int = 0) -> bytes:
        """A file from `offset` on; nothing if there is none."""
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
