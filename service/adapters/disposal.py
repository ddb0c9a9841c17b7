"""Deletes files of runs without following links, so that an interrupted deletion is resumed.

What is deleted is first moved into the folder `.deleted` of the same root. Folders are opened by
`ConfinedFolder`, and names in them relative to their descriptors: a worker that replaces a folder
by a link gets nothing else deleted.
"""

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import structlog

from configs.protocol.names import RunFile
from service.adapters.confined_files import ConfinedFolder, list_names
from service.domain.retention import RunPart

_TRASH: Final = ".deleted"
_RUN_ID = re.compile(r"[0-9a-z]{1,16}")

log = structlog.get_logger(__name__)


class LocalDisposal:
    """Implements `ports.Disposal`."""

    def __init__(self, *, runs_dir: Path, logs_dir: Path) -> None:
        self._runs = ConfinedFolder(runs_dir, folder_mode=0o700)
        self._logs = ConfinedFolder(logs_dir, folder_mode=0o700)

    def measure(self, run_id: str, part: RunPart) -> int | None:
        """The size on the disk; None if there is nothing, or nothing that may be deleted."""
        with self._open_parent(run_id, part) as opened:
            if opened is None:
                return None
            folder, name = opened
            return _measure(name, folder=folder)

    def delete(self, run_id: str, part: RunPart) -> int | None:
        """As `measure`, and delete it. Errors of the file system are logged, not raised."""
        try:
            with self._open_parent(run_id, part) as opened:
                if opened is None:
                    return None
                folder, name = opened
                size_bytes = _measure(name, folder=folder)
                if size_bytes is not None:
                    with _open_trash(self._confine(part)) as trash:
                        target = f"{run_id}-{secrets.token_hex(4)}"
                        os.rename(name, target, src_dir_fd=folder, dst_dir_fd=trash)
                        _remove(target, folder=trash)
                return size_bytes
        except OSError as error:
            log.warning("retention.not_deleted", run_id=run_id, part=part, reason=str(error))
            return None

    def finish(self) -> int:
        """Delete what interrupted deletions left; returns the number of their files and folders.

        Errors of the file system are logged, not raised: among them that the folder is a link.
        """
        num_deleted = 0
        for confined in (self._runs, self._logs):
            trash_dir = confined.root / _TRASH
            if not trash_dir.is_dir():
                continue
            try:
                with _open_trash(confined) as trash:
                    for name in list_names(trash):
                        _remove(name, folder=trash)
                        num_deleted += 1
            except OSError as error:
                log.warning("retention.trash_not_emptied", path=str(trash_dir), reason=str(error))
        return num_deleted

    @contextmanager
    def _open_parent(self, run_id: str, part: RunPart) -> Iterator[tuple[int, str] | None]:
        """The folder that contains a part, and the part's name in it.

        None if a folder on the way does not exist or is a link.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise ValueError(f"{run_id!r} is not the id of a run")
        confined = self._confine(part)
        run_dir = confined.root / run_id
        path = {
            "folder": run_dir,
            "logs": run_dir,
            "checkpoints": run_dir / RunFile.CHECKPOINTS,
            "spool": run_dir / RunFile.SPOOL,
        }[part]
        with contextlib.ExitStack() as opened:
            try:
                folder = opened.enter_context(confined.open_folder(path.parent))
            except FileNotFoundError:
                yield None
            except OSError as error:
                log.warning("retention.not_deleted", run_id=run_id, part=part, reason=str(error))
                yield None
            else:
                yield folder, path.name

    def _confine(self, part: RunPart) -> ConfinedFolder:
        return self._logs if part == "logs" else self._runs


def _open_trash(confined: ConfinedFolder) -> AbstractContextManager[int]:
    return confined.open_folder(confined.root / _TRASH, create=True)


def _measure(name: str, *, folder: int) -> int | None:
    """The bytes on the disk of a file or a folder; None if it does not exist or is a link."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(status.st_mode):
        return status.st_blocks * 512
    if not stat.S_ISDIR(status.st_mode):
        return None
    sizes = {}  # by inode, since checkpoints have several names
    for _, _, files, opened in os.fwalk(name, dir_fd=folder, follow_symlinks=False):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(file, dir_fd=opened, follow_symlinks=False)
                sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())


def _remove(name: str, *, folder: int) -> None:
    """Remove a file, a link or a whole folder; what others removed meanwhile is fine."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
