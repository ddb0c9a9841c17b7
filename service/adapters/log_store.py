"""Logs of attempts in a folder of the service, so that they outlive nodes and Ray heads.

A log is stored in chunks: files named by the offset of their first byte, as in an object store.
Of a long log, the chunks between its beginning and its end are deleted.
"""

import fcntl
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from configs.protocol.log_limits import LOG_LIMITS, LogLimits
from service.adapters.confined_files import ConfinedFolder
from service.domain.ports import LogPart

_ATTEMPT = "attempt-"
_MAX_CHUNK_BYTES = 1024 * 1024


class LocalLogStore:
    """Implements `ports.LogStore`."""

    def __init__(self, root: Path, *, limits: LogLimits = LOG_LIMITS) -> None:
        self._root = root
        # Not for the group of a shared home: workers have no business here.
        self._confined = ConfinedFolder(root, folder_mode=0o700)
        self._limits = limits
        self._chunk_bytes = min(_MAX_CHUNK_BYTES, limits.tail_bytes)

    @property
    def limits(self) -> LogLimits:
        return self._limits

    def append(
        self, run_id: str, attempt: int, *, offset: int, content: bytes, after_gap: bool = False
    ) -> int:
        """Append the new part of `content`; returns the next expected offset.

        Stored bytes never change, and after a gap nothing is stored unless `after_gap`.
        """
        folder = self._folder(run_id, attempt)
        with self._lock(folder):
            end = self.size_bytes(run_id, attempt)
            may_skip = after_gap and end >= self._limits.head_bytes
            start = offset if may_skip and offset > end else end
            new = content[start - offset :] if offset <= start else b""
            if new:
                self._write(folder, start, new, is_continued=start == end)
                end = start + len(new)
                self._delete_middle(folder, end)
            return end

    def size_bytes(self, run_id: str, attempt: int) -> int:
        chunks = self._list_chunks(run_id, attempt)
        if not chunks:
            return 0
        start, file = chunks[-1]
        return start + self._confined.size_bytes(file)

    def list_attempts(self, run_id: str, *, after: int) -> list[int]:
        folders = (self._root / run_id).glob(f"{_ATTEMPT}*")
        suffixes = (folder.name.removeprefix(_ATTEMPT) for folder in folders)
        numbers = (int(suffix) for suffix in suffixes if suffix.isdecimal())
        later = sorted(number for number in numbers if number > after)
        return [number for number in later if self.size_bytes(run_id, number)]

    def read(self, run_id: str, attempt: int, *, offset: int, limit: int) -> LogPart:
        content = bytearray()
        for start, file in _chunks_from(self._list_chunks(run_id, attempt), offset):
            position = offset + len(content)
            if len(content) >= limit or (content and start > position):
                break  # enough, or what follows is left out
            try:
                chunk_file = self._confined.open_file(file)
            except FileNotFoundError:
                continue  # it was deleted after it was listed
            with chunk_file:
                chunk_file.seek(max(0, position - start))
                content += chunk_file.read(limit - len(content))
            if content and start > position:
                offset = start
        return LogPart(offset, bytes(content))

    def _write(self, folder: Path, start: int, content: bytes, *, is_continued: bool) -> None:
        chunks = _chunks_in(folder)
        file = folder / f"{start:015d}.log"
        if chunks and is_continued and start - chunks[-1][0] < self._chunk_bytes:
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

    def _delete_middle(self, folder: Path, end: int) -> None:
        """Delete the chunks that are completely between the beginning and the end of a log."""
        tail_start = end - self._limits.tail_bytes
        if tail_start <= self._limits.head_bytes:
            return
        chunks = _chunks_in(folder)
        for (start, file), (next_start, _) in pairwise(chunks):
            if start >= self._limits.head_bytes and next_start <= tail_start:
                file.unlink(missing_ok=True)

    def _list_chunks(self, run_id: str, attempt: int) -> list[tuple[int, Path]]:
        return _chunks_in(self._folder(run_id, attempt))

    def _folder(self, run_id: str, attempt: int) -> Path:
        return self._root / run_id / f"{_ATTEMPT}{attempt}"


def _chunks_in(folder: Path) -> list[tuple[int, Path]]:
    files = (file for file in folder.glob("*.log") if file.stem.isdecimal())
    return sorted((int(file.stem), file) for file in files)


def _chunks_from(chunks: list[tuple[int, Path]], offset: int) -> list[tuple[int, Path]]:
    """The chunks without those that end before `offset`."""
    first = bisect_right([start for start, _ in chunks], offset)
    return chunks[max(0, first - 1) :]
