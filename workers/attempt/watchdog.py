"""Ends this process when its own main loop hangs.

A collective may wait for a frozen process, or a data loader may block. The threads would continue
to send heartbeats to the service, so only the process itself can notice.
"""

import contextlib
import faulthandler
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode
from workers.process.children import kill_process_tree
from workers.telemetry.heartbeat import Heartbeat
from workers.telemetry.protocol import Reporter

_TIMEOUT_FACTORS = {"preparing": 3, "finishing": 3}
"""By phase, where one step may be a download, a whole model or a whole file. A run is preparing
until its first training step."""

_MAX_POLL_INTERVAL_S = 1.0
_REPORT_TIMEOUT_S = 20.0
_DRAIN_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)


class Watchdog:
    """A thread that calls `on_stall` once, when there was no heartbeat for too long."""

    def __init__(
        self, heartbeat: Heartbeat, *, stall_timeout_s: float, on_stall: Callable[[str], None]
    ) -> None:
        self._heartbeat = heartbeat
        self._stall_timeout_s = stall_timeout_s
        self._poll_interval_s = min(_MAX_POLL_INTERVAL_S, stall_timeout_s / 10)
        self._on_stall = on_stall
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop monitoring; does not wait for an `on_stall` that is running."""
        self._is_stopped.set()

    def _run(self) -> None:
        num_beats, silence_s, polled_at_s = self._heartbeat.num_beats, 0.0, time.monotonic()
        while not self._is_stopped.wait(self._poll_interval_s):
            now_s = time.monotonic()
            # While the process was stopped, or the machine suspended, no beat was possible.
            silence_s += min(now_s - polled_at_s, 2 * self._poll_interval_s)
            polled_at_s = now_s
            if self._heartbeat.num_beats != num_beats:
                num_beats, silence_s = self._heartbeat.num_beats, 0.0
            elif silence_s >= self._timeout_s:
                self._on_stall(self._message(silence_s))
                return

    @property
    def _timeout_s(self) -> float:
        return self._stall_timeout_s * _TIMEOUT_FACTORS.get(self._heartbeat.phase, 1)

    def _message(self, silence_s: float) -> str:
        since = self._heartbeat.last_beat_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"No progress for {silence_s:.0f} s, since {since}, while {self._heartbeat.phase}."


@contextlib.contextmanager
def watch_for_stalls(
    reporters: Mapping[Path, Reporter], *, stall_timeout_s: float
) -> Iterator[None]:
    """Run a watchdog of this process's main loop inside the context.

    `reporters` of the runs that the process trains, by their logs; they share one heartbeat.
    """

    def end_process(message: str) -> None:
        end_stalled_process(message, reporters)

    heartbeat = next(iter(reporters.values())).heartbeat
    watchdog = Watchdog(heartbeat, stall_timeout_s=stall_timeout_s, on_stall=end_process)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()


def end_stalled_process(message: str, reporters: Mapping[Path, Reporter]) -> None:
    """Write the stacks to each log, report each failure, and end this process with its children.

    The main loop may hold a lock that reporting needs, so each report has a thread and a timeout.
    """
    threads = [
        threading.Thread(
            target=_report_stall, args=(message, *item), name="report stall", daemon=True
        )
        for item in reporters.items()
    ]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + _REPORT_TIMEOUT_S
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    kill_process_tree(ExitCode.INTERRUPTED)


def _report_stall(message: str, log_file: Path, reporter: Reporter) -> None:
    try:
        with log_file.open("a", encoding="utf-8") as file:
            file.write(f"{message} Stacks of all threads:\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
    finally:
        hint = f"The stacks of all threads are in {log_file.name}."
        reporter.report_outcome("failed", reason=FailureReason.STALLED, message=f"{message} {hint}")
        log.error("The attempt failed: %s: %s", FailureReason.STALLED, message)
        reporter.drain(timeout_s=_DRAIN_TIMEOUT_S)
