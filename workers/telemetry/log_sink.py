"""Ships an attempt's log file to the service while it is written."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from configs.protocol.log_limits import LOG_LIMITS, LogLimits
from configs.protocol.names import LOG_CHUNK_BYTES, attempt_log_path
from configs.protocol.records import LogReceipt
from workers.telemetry.service_client import EndpointNotFound, ServiceClient, parse_response
from workers.telemetry.shipper import Shipper, ShipperTiming, SinkRefused

LOG_TIMING = ShipperTiming(batch_interval_s=2.0)
"""At most one request every 2 s for a log that grows all the time."""

_POLL_INTERVAL_S = 0.5


class LogFile:
    """Implements `AppendOnlySource` for a file that others write; positions are bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wake_event = threading.Event()

    def __len__(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, position: int, *, limit: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(position)
            return file.read(limit)

    def wait_for_growth(
        self, position: int, *, timeout_s: float, should_stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Poll the file's size, since its writers cannot notify us."""
        deadline_s = time.monotonic() + timeout_s
        while len(self) <= position and not should_stop() and time.monotonic() < deadline_s:
            if self._wake_event.wait(_POLL_INTERVAL_S):
                self._wake_event.clear()
        return len(self) > position

    def wake(self) -> None:
        self._wake_event.set()


class LogSink:
    """The service's endpoint for the log of one attempt."""

    name = "the service's log"
    pause_s = 0.0

    def __init__(
        self, url: str, *, run_id: str, attempt: int, token_file: Path | None = None
    ) -> None:
        self._path = f"/v1/runs/{run_id}/attempts/{attempt}/log"
        self._client = ServiceClient(url, token_file=token_file)

    def deliver(self, first: int, chunk: bytes, *, after_gap: bool = False) -> int:
        """POST bytes that start at offset `first`; returns the offset that the service expects.

        `after_gap`: what the service does not have yet of the part before `first` is left out.
        """
        path = f"{self._path}?offset={first}" + ("&after_gap=true" if after_gap else "")
        try:
            response = self._client.post(path, chunk, media_type="application/octet-stream")
        except EndpointNotFound as error:  # an older service: the log stays in its file
            raise SinkRefused(str(error)) from error
        return parse_response(LogReceipt, response).next

    def close(self) -> None:
        self._client.close()


class OmittingLogSink:
    """Delivers a log file to the service, but of a backlog over the limits only the end."""

    def __init__(self, sink: LogSink, file: LogFile, *, limits: LogLimits) -> None:
        self.name, self.pause_s = sink.name, sink.pause_s
        self._sink = sink
        self._file = file
        self._limits = limits

    def deliver(self, first: int, chunk: bytes) -> int:
        """Deliver the chunk, or else the beginning of the end of the log if that follows."""
        start = self._limits.skip_omitted(first, size_bytes=len(self._file))
        if start == first:
            return self._sink.deliver(first, chunk)
        chunk = self._file.read(start, limit=LOG_CHUNK_BYTES)
        return self._sink.deliver(start, chunk, after_gap=True)


def build_log_shipper(
    sink: LogSink,
    *,
    run_dir: Path,
    attempt: int,
    timing: ShipperTiming = LOG_TIMING,
    limits: LogLimits = LOG_LIMITS,
) -> Shipper[bytes]:
    """A shipper of the attempt's log, which sends no heartbeats."""
    log = run_dir / attempt_log_path(attempt)
    file = LogFile(log)
    return Shipper(
        file,
        OmittingLogSink(sink, file, limits=limits),
        position_file=log.with_suffix(".position"),
        heartbeat_s=None,
        batch_size=LOG_CHUNK_BYTES,
        timing=timing,
    )
