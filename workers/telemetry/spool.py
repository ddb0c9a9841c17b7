"""An append-only file of records in the run's folder: no record is lost or reported twice."""

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
_SYNCED_AT_ONCE = (Artifact, Outcome, Tracked)
_SYNC_INTERVAL_S = 2.0
_RESERVE_BYTES = 1 << 16
_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}


class SpoolUnreadable(Exception):
    """A complete line is not a record: another program wrote it, or the disk failed."""

    def __init__(self, path: Path, line: int, error: ValidationError) -> None:
        super().__init__(
            f"Line {line + 1} of {path} is not a record. Move the file away to start a new one; "
            f"metrics that were delivered before are not lost. {error}"
        )


class Spool:
    """Records as JSON lines; a position is a line number, from 0.

    All attempts of a run share one spool. An incomplete last line, which a crash leaves, is cut off
    when the file is opened.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._path = path
        self._reserve = path.with_suffix(".reserve")
        self._changed = threading.Condition()
        self._line_offsets = array("q")
        self._end = 0
        self._last_steps: dict[str, int] = {}
        self._mlflow_run_id: str | None = None
        self._truncate_torn_line()
        self._index_new_lines()
        self._synced_end = 0
        self._synced_at_s = time.monotonic()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._is_open = True

    def __len__(self) -> int:
        return len(self._line_offsets)

    @property
    def mlflow_run_id(self) -> str | None:
        """From the last `Tracked` record; None before the first one."""
        return self._mlflow_run_id

    def append(self, record: Record) -> None:
        """Write a record; artifacts, outcomes and MLflow ids are also synced to disk at once."""
        with self._changed:
            self._write_line(
                _RECORDS.dump_json(record) + b"\n", may_use_reserve=isinstance(record, Outcome)
            )
            self._index_new_lines()
            is_due = time.monotonic() - self._synced_at_s > _SYNC_INTERVAL_S
            if is_due or isinstance(record, _SYNCED_AT_ONCE):
                self.sync()
            self._changed.notify_all()

    def allocate_reserve(self) -> None:
        """Occupy disk space that `append` frees for an outcome when the disk is full."""
        with contextlib.suppress(OSError), self._reserve.open("wb") as file:
            file.write(bytes(_RESERVE_BYTES))
            file.flush()
            os.fsync(file.fileno())

    def append_unreported(self, record: Metrics) -> bool:
        """Append those values of `record` that are unreported; returns whether there were any."""
        with self._changed:
            values = self.unreported(record.step, record.values)
            if values:
                self.append(record.model_copy(update={"values": values}))
            return bool(values)

    def unreported(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Those of `values` whose key no attempt has reported at `step` or later.

        A resumed run repeats the steps after its last checkpoint with the same results, so the
        first report stands, with its time.
        """
        with self._changed:
            return {key: value for key, value in values.items() if step > self._last_step(key)}

    def read(self, position: int, *, limit: int) -> list[Record]:
        """At most `limit` records from `position` on, synced to disk before they are returned.

        A sink that has received records which a power failure then removed from the spool would
        take the next records for those that it has.
        """
        self.sync()
        with self._changed:
            offsets = self._line_offsets[position : position + limit + 1]
            end = offsets.pop() if len(offsets) > limit else self._synced_end
        if not offsets or offsets[0] >= end:
            return []
        with self._path.open("rb") as file:
            file.seek(offsets[0])
            lines = file.read(end - offsets[0]).splitlines()
        return [_RECORDS.validate_json(line, extra="ignore") for line in lines]

    def wait_for_growth(
        self, position: int, *, timeout_s: float, should_stop: Callable[[], bool] = lambda: False
    ) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._line_offsets) > position or should_stop(), timeout_s
            )
            return len(self._line_offsets) > position

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def sync(self) -> None:
        """Flush what is written to the disk, without blocking threads that append meanwhile."""
        with self._changed:
            end = self._end
            if end == self._synced_end or not self._is_open:
                return
        os.fsync(self._file)
        with self._changed:
            self._synced_end = max(self._synced_end, end)
            self._synced_at_s = time.monotonic()

    def close(self) -> None:
        """Sync and close; may be called more than once."""
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        self.sync()
        with self._changed:
            if self._is_open:
                self._is_open = False
                os.close(self._file)

    def _write_line(self, line: bytes, *, may_use_reserve: bool) -> None:
        try:
            self._write_or_truncate(line)
        except OSError as error:
            is_disk_full = error.errno in _DISK_FULL_ERRNOS
            if not is_disk_full or not may_use_reserve or not self._reserve.exists():
                raise
            self._reserve.unlink()
            self._write_or_truncate(line)

    def _write_or_truncate(self, line: bytes) -> None:
        """Write the complete line, or leave the file as it was."""
        end = os.fstat(self._file).st_size
        unwritten = memoryview(line)
        try:
            while unwritten:
                unwritten = unwritten[os.write(self._file, unwritten) :]
        except OSError:
            # On a full disk half a line may be written, and would corrupt the next one.
            os.ftruncate(self._file, end)
            raise

    def _truncate_torn_line(self) -> None:
        content = self._path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            os.truncate(self._path, complete)

    def _index_new_lines(self) -> None:
        """Index lines after the known end, also those that another process has appended."""
        with self._path.open("rb") as file:
            file.seek(self._end)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            try:
                record = _RECORDS.validate_json(line, extra="ignore")
            except ValidationError as error:
                raise SpoolUnreadable(self._path, len(self._line_offsets), error) from error
            self._line_offsets.append(self._end)
            self._end += len(line)
            self._index_record(record)

    def _index_record(self, record: Record) -> None:
        if isinstance(record, Tracked):
            self._mlflow_run_id = record.mlflow_run_id
        if isinstance(record, Metrics):
            for key in record.values:
                self._last_steps[key] = max(record.step, self._last_step(key))

    def _last_step(self, key: str) -> int:
        """-1 if no attempt has reported the key."""
        return self._last_steps.get(key, -1)
