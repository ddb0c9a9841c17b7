"""An append-only file of records beside the checkpoints: nothing is lost nor said twice."""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from configs.spec import Artifact, Metrics, Outcome, Record, Tracked

_RECORDS: TypeAdapter[Record] = TypeAdapter(Record)
_IMPORTANT = (Artifact, Outcome, Tracked)
_SYNC_EVERY_S = 2.0


class Spool:
    """Records, one JSON document a line; a position is a line number, counted from 0.

    A run has one spool over all its attempts. A line that a crash tore is cut off on opening.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._grown = threading.Condition()
        self._starts: list[int] = []
        self._said: dict[str, int] = {}
        self._tracked = False
        self._end = 0
        self._synced_s = 0.0
        self._take_stock()
        self._file = path.open("ab")

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def is_tracked(self) -> bool:
        """Whether the run's MLflow run is named in here."""
        return self._tracked

    def append(self, record: Record) -> None:
        """Write one record through to the operating system; important ones through to the disk."""
        line = _RECORDS.dump_json(record) + b"\n"
        with self._grown:
            self._file.write(line)
            self._file.flush()
            self._sync(important=isinstance(record, _IMPORTANT))
            self._take_in(record, length=len(line))
            self._grown.notify_all()

    def unsaid(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Those of `values` that no attempt has said at `step` or later.

        A resumed run repeats the steps after its last checkpoint with the same results, so what was
        said first stands, with its time.
        """
        with self._grown:
            return {key: value for key, value in values.items() if step > self._said.get(key, -1)}

    def read(self, position: int, *, limit: int) -> list[Record]:
        """Up to `limit` records from `position` on."""
        with self._grown:
            starts = self._starts[position : position + limit + 1]
            end = starts.pop() if len(starts) > limit else self._end
        if not starts:
            return []
        with self._path.open("rb") as file:
            file.seek(starts[0])
            lines = file.read(end - starts[0]).splitlines()
        return [_RECORDS.validate_json(line) for line in lines]

    def wait_beyond(self, position: int, *, timeout_s: float) -> bool:
        """Wait until there is a record at `position`; whether there is."""
        with self._grown:
            return self._grown.wait_for(lambda: len(self._starts) > position, timeout=timeout_s)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        with self._grown:
            self._grown.notify_all()

    def close(self) -> None:
        """Write through to the disk and close; harmless when repeated."""
        with self._grown:
            if self._file.closed:
                return
            self._sync(important=True)
            self._file.close()

    def _take_stock(self) -> None:
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        for line in whole.splitlines(keepends=True):
            self._take_in(_RECORDS.validate_json(line), length=len(line))

    def _take_in(self, record: Record, *, length: int) -> None:
        self._starts.append(self._end)
        self._end += length
        if isinstance(record, Metrics):
            self._said |= dict.fromkeys(record.values, record.step)
        self._tracked |= isinstance(record, Tracked)

    def _sync(self, *, important: bool) -> None:
        now_s = time.monotonic()
        if important or now_s - self._synced_s > _SYNC_EVERY_S:
            os.fsync(self._file.fileno())
            self._synced_s = now_s
