"""Carries a spool's records to one place, in order, for as long as it takes."""

import logging
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from configs.spec import Record
from workers.reporting.spool import Spool

BATCH = 500
_LONGEST_PAUSE_S = 15.0
_FIRST_PAUSE_S = 0.5

log = logging.getLogger(__name__)


class SinkUnavailable(Exception):
    """The place cannot be reached or cannot take records now; try again later."""


class SinkRefused(Exception):
    """The place does not want this attempt's records any more."""


class Sink(Protocol):
    """A place that takes records."""

    name: str

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        """Take records from position `first` on; an empty delivery says that we live.

        Returns the position that is wanted next. Raises `SinkUnavailable` or `SinkRefused`.
        """


class Shipper:
    """A thread that brings records to a sink; its position outlives the process."""

    def __init__(
        self, spool: Spool, sink: Sink, *, position_file: Path, heartbeat_s: float
    ) -> None:
        self._spool = spool
        self._sink = sink
        self._position_file = position_file
        self._heartbeat_s = heartbeat_s
        self._position = _read_position(position_file)
        self._pause_s = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ship to {sink.name}", daemon=True)
        self.is_refused = False

    @property
    def left(self) -> int:
        """Records that were not delivered yet."""
        return len(self._spool) - self._position

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def drain(self, deadline_s: float) -> bool:
        """Ship until nothing is left or the clock shows `deadline_s`; whether all is there."""
        while self.left > 0 and not self.is_refused and time.monotonic() < deadline_s:
            self._spool.wake()
            self._closing.wait(0.05)
        return self.left <= 0

    def stop(self) -> None:
        """End the thread; what is left stays in the spool."""
        self._closing.set()
        self._spool.wake()
        self._thread.join(timeout=_LONGEST_PAUSE_S)

    def _run(self) -> None:
        while not self._closing.is_set() and not self.is_refused:
            self._spool.wait_beyond(self._position, timeout_s=self._heartbeat_s)
            if self._closing.is_set():
                return
            self._ship_once()
            self._closing.wait(self._pause_s * random.uniform(0.5, 1.0))

    def _ship_once(self) -> None:
        records = self._spool.read(self._position, limit=BATCH)
        try:
            wanted = self._sink.deliver(self._position, records)
        except SinkUnavailable as error:
            self._note_down(error)
        except SinkRefused as error:
            log.warning("%s refuses this attempt: %s", self._sink.name, error)
            self.is_refused = True
        except Exception:
            log.exception("A delivery to %s failed unexpectedly.", self._sink.name)
            self._pause_s = _LONGEST_PAUSE_S
        else:
            self._note_up()
            self._advance(wanted)

    def _advance(self, wanted: int) -> None:
        wanted = min(wanted, len(self._spool))
        if wanted != self._position:
            self._position = wanted
            unfinished = self._position_file.with_suffix(".unfinished")
            unfinished.write_text(str(wanted), encoding="ascii")
            unfinished.replace(self._position_file)

    def _note_down(self, error: SinkUnavailable) -> None:
        if self._pause_s == 0.0:
            log.warning("%s is away (%s); training goes on, records wait.", self._sink.name, error)
        self._pause_s = min(max(_FIRST_PAUSE_S, self._pause_s * 2), _LONGEST_PAUSE_S)

    def _note_up(self) -> None:
        if self._pause_s > 0.0:
            log.warning("%s is back.", self._sink.name)
        self._pause_s = 0.0


def _read_position(path: Path) -> int:
    return int(path.read_text(encoding="ascii")) if path.exists() else 0
