"""Logs of attempts in pieces, in a folder of the service's own: they outlive nodes and heads.

A piece is a file that is named by the offset of its first byte, as an object store would keep it.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PIECE_BYTES = 1024 * 1024


class LocalLogStore:
    """Implements `ports.LogStore`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def append(self, run_id: str, attempt: int, *, offset: int, content: bytes) -> int:
        """Keep what is new of `content`; returns the offset to go on from.

        What is there already stays as it is, and after a gap nothing is taken.
        """
        folder = self._folder(run_id, attempt)
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            end = self.size_bytes(run_id, attempt)
            new = content[end - offset :] if offset <= end else b""
            if new:
                self._write(folder, end, new)
            return end + len(new)

    def size_bytes(self, run_id: str, attempt: int) -> int:
        """How many bytes there are."""
        pieces = self._pieces(run_id, attempt)
        if not pieces:
            return 0
        start, file = pieces[-1]
        return start + file.stat().st_size

    def read(self, run_id: str, attempt: int, *, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset` on."""
        found = bytearray()
        for start, file in self._pieces(run_id, attempt):
            at = offset + len(found)
            if len(found) < limit and start <= at < start + file.stat().st_size:
                with file.open("rb") as piece:
                    piece.seek(at - start)
                    found += piece.read(limit - len(found))
        return bytes(found)

    def _write(self, folder: Path, end: int, content: bytes) -> None:
        pieces = _pieces_in(folder)
        file = folder / f"{end:015d}.log"
        if pieces and end - pieces[-1][0] < _PIECE_BYTES:
            file = pieces[-1][1]
        with file.open("ab") as piece:
            piece.write(content)

    def _pieces(self, run_id: str, attempt: int) -> list[tuple[int, Path]]:
        return _pieces_in(self._folder(run_id, attempt))

    def _folder(self, run_id: str, attempt: int) -> Path:
        return self._root / run_id / f"attempt-{attempt}"


def _pieces_in(folder: Path) -> list[tuple[int, Path]]:
    return sorted((int(file.stem), file) for file in folder.glob("*.log"))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Several services may be handed pieces of the same log."""
    with (folder / "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
