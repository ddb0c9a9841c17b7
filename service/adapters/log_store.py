"""Logs of attempts in a folder of the service, so that they outlive nodes and Ray heads.

A log is stored in chunks: files named by the offset of their first byte, as in an object store.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.adapters.confined_files import ConfinedFolder

_MAX_CHUNK_BYTES = 1024 * 1024


class LocalLogStore:
    """Implements `ports.LogStore`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Not for the group of a shared home: workers have no business here.
        self._confined = ConfinedFolder(root, folder_mode=0o700)

    def append(self, run_id: str, attempt: int, *, offset: int, content: bytes) -> int:
        """Append the new part of `content`; returns the next expected offset.

        Stored bytes never change, and after a gap nothing is stored.
        """
        folder = self._folder(run_id, attempt)
        with self._lock(folder):
            end = self.size_bytes(run_id, attempt)
            new = content[end - offset :] if offset <= end else b""
            if new:
                self._write(folder, end, new)
            return end + len(new)

    def size_bytes(self, run_id: str, attempt: int) -> int:
        chunks = self._list_chunks(run_id, attempt)
        if not chunks:
            return 0
        start, file = chunks[-1]
        return start + self._confined.size_bytes(file)

    def read(self, run_id: str, attempt: int, *, offset: int, limit: int) -> bytes:
        content = bytearray()
        for start, file in self._list_chunks(run_id, attempt):
            at = offset + len(content)
            if len(content) < limit and start <= at < start + self._confined.size_bytes(file):
                with self._confined.open_file(file) as chunk_file:
                    chunk_file.seek(at - start)
                    content += chunk_file.read(limit - len(content))
        return bytes(content)

    def _write(self, folder: Path, end: int, content: bytes) -> None:
        chunks = _chunks_in(folder)
        file = folder / f"{end:015d}.log"
        if chunks and end - chunks[-1][0] < _MAX_CHUNK_BYTES:
            file = chunks[-1][1]
        with self._confined.append_file(file) as chunk_file:
            chunk_file.write(content)

    @contextmanager
    def _lock(self, folder: Path) -> Iterator[None]:
        """Lock a log's folder: several service processes may receive parts of the same log."""
        with self._confined.open_folder(folder, create=True):
            pass
        with self._confined.append_file(folder / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _list_chunks(self, run_id: str, attempt: int) -> list[tuple[int, Path]]:
        return _chunks_in(self._folder(run_id, attempt))

    def _folder(self, run_id: str, attempt: int) -> Path:
        return self._root / run_id / f"attempt-{attempt}"


def _chunks_in(folder: Path) -> list[tuple[int, Path]]:
    files = (file for file in folder.glob("*.log") if file.stem.isdecimal())
    return sorted((int(file.stem), file) for file in files)
