"""Carries what grows, a spool or a log, to one place, in order, for as long as it takes."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

BATCH_SIZE = 500
"""Records of one delivery."""

_IDLE_S = 3600.0

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)
ItemT_contra = TypeVar("ItemT_contra", contravariant=True)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShipperTiming:
    """How long a shipper waits, in seconds, when there is something to bring."""

    batch_interval_s: float = 0.2
    """After a delivery, so that the next one has more than one record."""

    initial_backoff_s: float = 0.5
    max_backoff_s: float = 15.0
    """While a place is away, pauses double from the first to the longest."""

    max_flush_backoff_s: float = 1.0
    """The longest pause while somebody waits for the end."""

    stop_timeout_s: float = 2.0
    """What a delivery that is under way gets at the end."""


class SinkUnavailable(Exception):
    """The place cannot be reached or cannot take records now; try again later."""


class SinkProtocolError(SinkUnavailable):
    """The place is there, but its answer makes no sense to us: somebody has to look."""


class SinkRefused(Exception):
    """The place does not want this attempt's records any more."""


class AppendOnlySource(Protocol[ItemT_co]):
    """What grows at its end: a spool counts in records, a log in bytes."""

    def __len__(self) -> int:
        """Position of its end."""

    def read(self, position: int, *, limit: int) -> ItemT_co:
        """Up to `limit` from `position` on."""

    def wait_for_growth(
        self, position: int, *, timeout_s: float, should_stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait for something at `position`, or `unless`, asked at `wake`; whether it is there."""

    def wake(self) -> None:
        """Let everybody who waits look again."""


class Sink(Protocol[ItemT_contra]):
    """A place that takes what a source gives."""

    name: str

    def deliver(self, first: int, cargo: ItemT_contra, /) -> int:
        """Take what is at position `first` and on; an empty delivery says that we live.

        Returns the position that is wanted next. Raises `SinkUnavailable` or `SinkRefused`.
        """


class Shipper(Generic[ItemT]):
    """A thread that brings a source's growth to a sink; its position outlives the process."""

    def __init__(
        self,
        source: AppendOnlySource[ItemT],
        sink: Sink[ItemT],
        *,
        position_file: Path,
        heartbeat_s: float | None,
        batch_size: int = BATCH_SIZE,
        timing: ShipperTiming = ShipperTiming(),
    ) -> None:
        """`heartbeat_s`: silence after which an empty delivery says that we live; none: never."""
        self._source = source
        self._sink = sink
        self._position_file = position_file
        self._heartbeat_s = heartbeat_s
        self._batch = batch_size
        self._pace = timing
        self._position = min(_read_position(position_file), len(source))
        self._is_behind = False
        self._pause_s = 0.0
        self._trouble: str | None = None
        # Of its own: the training draws from the global one, and must not feel us.
        self._dice = random.Random()
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._tried = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"ship to {sink.name}", daemon=True)
        self.is_refused = False

    @property
    def name(self) -> str:
        """The place's name."""
        return self._sink.name

    @property
    def pending(self) -> int:
        """Records, or bytes, that were not delivered yet."""
        return len(self._source) - self._position

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def flush(self) -> None:
        """Pause no longer than needed from now on, for somebody waits for the end."""
        self._hurry.set()

    def drain(self, deadline_s: float) -> bool:
        """Ship until nothing is left or the clock shows `deadline_s`; whether all is there."""
        self.flush()
        with self._tried:
            self._tried.wait_for(
                lambda: self.pending <= 0 or self.is_refused,
                timeout=max(0.0, deadline_s - time.monotonic()),
            )
        return self.pending <= 0

    def stop(self) -> bool:
        """End the thread; what is left stays where it is. Whether it has ended by now.

        A delivery that is under way is given a moment, but nobody waits for a place that hangs.
        """
        self._stopping.set()
        self._hurry.set()
        self._source.wake()
        self._thread.join(self._pace.stop_timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self.is_refused:
            has_grown = self._source.wait_for_growth(
                self._position,
                timeout_s=self._heartbeat_s or _IDLE_S,
                should_stop=self._stopping.is_set,
            )
            if self._stopping.is_set():
                return
            if not has_grown and self._heartbeat_s is None:
                continue
            self._ship()
            with self._tried:
                self._tried.notify_all()
            self._rest()

    def _ship(self) -> None:
        try:
            cargo = self._source.read(self._position, limit=self._batch)
            self._advance(self._sink.deliver(self._position, cargo))
        except SinkRefused as error:
            log.warning("%s refuses this attempt: %s", self._sink.name, error)
            self.is_refused = True
        except SinkProtocolError as error:
            self._note_fault(f"{error}")
        except SinkUnavailable as error:
            self._note_away(error)
        except Exception as error:  # whatever it is, training goes on and records wait
            self._note_fault(f"{type(error).__name__}: {error}", error)
        else:
            self._note_back()

    def _advance(self, wanted: int) -> None:
        here = len(self._source)
        if wanted > here and not self._is_behind:
            log.error(
                "%s is at position %d of this run, its folder only at %d; was the folder changed?",
                self._sink.name,
                wanted,
                here,
            )
        self._is_behind = wanted > here
        wanted = min(wanted, here)
        if wanted != self._position:
            self._position = wanted
            with contextlib.suppress(OSError):  # without it, something is sent twice, and not kept
                _write_position(self._position_file, wanted)

    def _note_away(self, error: SinkUnavailable) -> None:
        if self._trouble is None:
            log.warning("%s is away (%s); training goes on, records wait.", self._sink.name, error)
            self._trouble = ""
        longer_s = max(self._pace.initial_backoff_s, self._pause_s * 2)
        self._pause_s = min(longer_s, self._pace.max_backoff_s)

    def _note_fault(self, what: str, error: Exception | None = None) -> None:
        """Say the same fault once, with its traceback if it has one, and try again slowly."""
        if self._trouble != what:
            log.error(
                "Records cannot be brought to %s: %s Training goes on, records wait.",
                self._sink.name,
                what,
                exc_info=error,
            )
            self._trouble = what
        self._pause_s = self._pace.max_backoff_s

    def _note_back(self) -> None:
        if self._trouble is not None:
            log.warning("%s is back.", self._sink.name)
        self._trouble = None
        self._pause_s = 0.0

    def _rest(self) -> None:
        pause_s = self._pause_s * self._dice.uniform(0.5, 1.0)
        if not self._hurry.is_set():
            self._hurry.wait(max(pause_s, self._pace.batch_interval_s))
        elif pause_s > 0.0:
            self._stopping.wait(min(pause_s, self._pace.max_flush_backoff_s))


def drain_all(shippers: Sequence[Shipper[Any]], deadline_s: float) -> bool:
    """Drain side by side: all hurry before anybody is waited for; whether all is there."""
    for shipper in shippers:
        shipper.flush()
    drained = [shipper.drain(deadline_s) for shipper in shippers]
    return all(drained)


def _write_position(path: Path, position: int) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(str(position), encoding="ascii")
    unfinished.replace(path)


def _read_position(path: Path) -> int:
    """Where the last process was, else the beginning: what is known there changes nothing."""
    try:
        return max(0, int(path.read_text(encoding="ascii")))
    except (FileNotFoundError, ValueError):
        return 0
