"""An append-only file of records beside the checkpoints: nothing is lost nor said twice."""

import contextlib
import errno
import os
import threading
import time
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from configs.protocol.records import Artifact, Metrics, Outcome, Record, Tracked

_RECORDS: TypeAdapter[Record] = TypeAdapter(Record)
_IMPORTANT = (Artifact, Outcome, Tracked)
_SYNC_EVERY_S = 2.0
_RESERVE_BYTES = 1 << 16
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class SpoolUnreadable(Exception):
    """A whole line of the spool is no record: somebody else wrote it, or the disk is broken."""

    def __init__(self, path: Path, line: int, error: ValidationError) -> None:
        super().__init__(
            f"Line {line + 1} of {path} is not a record. Move the file away to begin a new one; "
            f"metrics that were delivered before stay where they are. {error}"
        )


class Spool:
    """Records, one JSON document a line; a position is a line number, counted from 0.

    A run has one spool over all its attempts. A line that a crash tore is cut off on opening.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._path = path
        self._reserve = path.with_suffix(".reserve")
        self._grown = threading.Condition()
        self._starts = array("q")
        self._end = 0
        self._last_steps: dict[str, int] = {}
        self._mlflow_run_id: str | None = None
        self._cut_torn_line()
        self._take_in()
        self._synced_end = 0
        self._synced_at_s = time.monotonic()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._is_open = True

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def mlflow_run_id(self) -> str | None:
        """The MLflow run that was named last."""
        return self._mlflow_run_id

    @property
    def is_tracked(self) -> bool:
        """Whether the run's MLflow run is named in here."""
        return self._mlflow_run_id is not None

    def append(self, record: Record) -> None:
        """Write one record through to the operating system; important ones through to the disk."""
        with self._grown:
            self._write_line(
                _RECORDS.dump_json(record) + b"\n", may_use_reserve=isinstance(record, Outcome)
            )
            self._take_in()
            is_due = time.monotonic() - self._synced_at_s > _SYNC_EVERY_S
            if is_due or isinstance(record, _IMPORTANT):
                self.sync()
            self._grown.notify_all()

    def allocate_reserve(self) -> None:
        """Hold as much of the disk as an outcome needs, for the day when it is full."""
        with contextlib.suppress(OSError), self._reserve.open("wb") as file:
            file.write(bytes(_RESERVE_BYTES))
            file.flush()
            os.fsync(file.fileno())

    def append_unreported(self, record: Metrics) -> bool:
        """Write those values of `record` that no attempt has said; whether there were any."""
        with self._grown:
            values = self.unreported(record.step, record.values)
            if values:
                self.append(record.model_copy(update={"values": values}))
            return bool(values)

    def unreported(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Those of `values` that no attempt has said at `step` or later.

        A resumed run repeats the steps after its last checkpoint with the same results, so what was
        said first stands, with its time.
        """
        with self._grown:
            return {key: value for key, value in values.items() if step > self._last_step(key)}

    def read(self, position: int, *, limit: int) -> list[Record]:
        """Up to `limit` records from `position` on.

        They are on the disk before they are handed out: a place that knows more of a run than the
        spool does after a power failure would take the next records for those it has.
        """
        self.sync()
        with self._grown:
            starts = self._starts[position : position + limit + 1]
            end = starts.pop() if len(starts) > limit else self._synced_end
        if not starts or starts[0] >= end:
            return []
        with self._path.open("rb") as file:
            file.seek(starts[0])
            lines = file.read(end - starts[0]).splitlines()
        return [_RECORDS.validate_json(line) for line in lines]

    def wait_for_growth(
        self, position: int, *, timeout_s: float, should_stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait for a record at `position`, or `unless`, asked at `wake`; whether it is there."""
        with self._grown:
            self._grown.wait_for(lambda: len(self._starts) > position or should_stop(), timeout_s)
            return len(self._starts) > position

    def wake(self) -> None:
        """Let everybody who waits look again."""
        with self._grown:
            self._grown.notify_all()

    def sync(self) -> None:
        """Have on the disk what is written; whoever appends meanwhile does not wait for it."""
        with self._grown:
            end = self._end
            if end == self._synced_end or not self._is_open:
                return
        os.fsync(self._file)
        with self._grown:
            self._synced_end = max(self._synced_end, end)
            self._synced_at_s = time.monotonic()

    def close(self) -> None:
        """Write through to the disk and close; harmless when repeated."""
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        self.sync()
        with self._grown:
            if self._is_open:
                self._is_open = False
                os.close(self._file)

    def _write_line(self, line: bytes, *, may_use_reserve: bool) -> None:
        try:
            self._write_whole(line)
        except OSError as error:
            if error.errno not in _NO_ROOM or not may_use_reserve or not self._reserve.exists():
                raise
            self._reserve.unlink()
            self._write_whole(line)

    def _write_whole(self, line: bytes) -> None:
        end = os.fstat(self._file).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            # On a full disk half a line may be there, and would spoil the next one.
            os.ftruncate(self._file, end)
            raise

    def _cut_torn_line(self) -> None:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)

    def _take_in(self) -> None:
        """Index what the file has beyond what is known, lines of another process included."""
        with self._path.open("rb") as file:
            file.seek(self._end)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            try:
                record = _RECORDS.validate_json(line)
            except ValidationError as error:
                raise SpoolUnreadable(self._path, len(self._starts), error) from error
            self._starts.append(self._end)
            self._end += len(line)
            self._note(record)

    def _note(self, record: Record) -> None:
        if isinstance(record, Tracked):
            self._mlflow_run_id = record.mlflow_run_id
        if isinstance(record, Metrics):
            for key in record.values:
                self._last_steps[key] = max(record.step, self._last_step(key))

    def _last_step(self, key: str) -> int:
        return self._last_steps.get(key, -1)
