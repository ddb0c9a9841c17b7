"""Finds out that the main loop of this very process hangs, and ends the process.

A collective that waits for a frozen process, a loader that never gives: threads go on sending
heartbeats then, and nobody else would notice.
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

_SLOW_PHASES = {"preparing": 3, "finishing": 3}
"""Where one step is a download, a whole model or a whole file, patience is so many times as long;
a run prepares itself until its first training step."""

_LONGEST_LOOK_S = 1.0
_LAST_WORDS_S = 20.0
_PATIENCE_S = 5.0

log = logging.getLogger(__name__)


class Watchdog:
    """A thread that calls `on_stall`, once, when nothing has beaten for too long."""

    def __init__(
        self, heartbeat: Heartbeat, *, stall_timeout_s: float, on_stall: Callable[[str], None]
    ) -> None:
        self._pulse = heartbeat
        self._stall_after_s = stall_timeout_s
        self._look_every_s = min(_LONGEST_LOOK_S, stall_timeout_s / 10)
        self._on_stall = on_stall
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; what is being ended already is not waited for."""
        self._is_over.set()

    def _run(self) -> None:
        known, silent_s, looked_s = self._pulse.num_beats, 0.0, time.monotonic()
        while not self._is_over.wait(self._look_every_s):
            now_s = time.monotonic()
            # While the process was stopped, or the machine asleep, nobody could have beaten.
            silent_s += min(now_s - looked_s, 2 * self._look_every_s)
            looked_s = now_s
            if self._pulse.num_beats != known:
                known, silent_s = self._pulse.num_beats, 0.0
            elif silent_s >= self._limit_s:
                self._on_stall(self._message(silent_s))
                return

    @property
    def _limit_s(self) -> float:
        return self._stall_after_s * _SLOW_PHASES.get(self._pulse.phase, 1)

    def _message(self, silent_s: float) -> str:
        since = self._pulse.last_beat_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"Nothing has moved for {silent_s:.0f} s, since {since}, while {self._pulse.phase}."


@contextlib.contextmanager
def watch_for_stalls(voices: Mapping[Path, Reporter], *, stall_timeout_s: float) -> Iterator[None]:
    """Watch this process's main loop as long as the context lasts.

    `voices` of the runs that it trains, by each one's log; they have one pulse.
    """

    def end(message: str) -> None:
        end_stalled_process(message, voices)

    heartbeat = next(iter(voices.values())).heartbeat
    watchdog = Watchdog(heartbeat, stall_timeout_s=stall_timeout_s, on_stall=end)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()


def end_stalled_process(message: str, voices: Mapping[Path, Reporter]) -> None:
    """Leave the stacks in each log and the reason with each voice, and end this process for good.

    Whatever hangs may hold a lock that the last words need, so they get threads and some time.
    """
    words = [
        threading.Thread(target=_say, args=(message, *one), name="last words", daemon=True)
        for one in voices.items()
    ]
    for thread in words:
        thread.start()
    deadline_s = time.monotonic() + _LAST_WORDS_S
    for thread in words:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    kill_process_tree(ExitCode.INTERRUPTED)


def _say(message: str, log_file: Path, reporter: Reporter) -> None:
    try:
        with log_file.open("a", encoding="utf-8") as file:
            file.write(f"{message} What every thread is at:\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
    finally:
        where = f"The stacks of all threads are in {log_file.name}."
        reporter.report_outcome(
            "failed", reason=FailureReason.STALLED, message=f"{message} {where}"
        )
        log.error("The attempt failed: %s: %s", FailureReason.STALLED, message)
        reporter.drain(timeout_s=_PATIENCE_S)
