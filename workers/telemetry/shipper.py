"""Ships what is appended to a source (a spool or a log) to one sink, in order, with retries."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from configs.atomic_files import write_atomically

BATCH_SIZE = 500
"""Records in one delivery."""

_IDLE_WAIT_S = 3600.0

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)
ItemT_contra = TypeVar("ItemT_contra", contravariant=True)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShipperTiming:
    """Intervals, backoff and timeouts of a shipper, in seconds."""

    batch_interval_s: float = 0.2
    """Pause after a delivery, so that the next one carries more than one record."""

    initial_backoff_s: float = 0.5
    max_backoff_s: float = 15.0
    """While the sink is unavailable, pauses double from the initial to the maximal backoff."""

    max_flush_backoff_s: float = 1.0
    """Maximal backoff once `Shipper.flush` was called."""

    stop_timeout_s: float = 2.0
    """How long `Shipper.stop` waits for a delivery that is under way."""


class SinkUnavailable(Exception):
    """The sink cannot be reached or cannot accept data now; retry later."""


class SinkProtocolError(SinkUnavailable):
    """The sink gave an unexpected answer, which somebody has to look into; retry slowly."""


class SinkRefused(Exception):
    """The sink accepts nothing more from this attempt; do not retry."""


class AppendOnlySource(Protocol[ItemT_co]):
    """Data that grows at its end; a position counts records in a spool, bytes in a log."""

    def __len__(self) -> int:
        """Position of its end."""

    def read(self, position: int, *, limit: int) -> ItemT_co:
        """At most `limit` records or bytes, from `position` on."""

    def wait_for_growth(
        self, position: int, *, timeout_s: float, should_stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait until the source is longer than `position`; returns whether it is.

        Returns early if `should_stop`, which is evaluated again at each `wake`, is true.
        """

    def wake(self) -> None:
        """Let every waiting thread evaluate its condition again."""


class Sink(Protocol[ItemT_contra]):
    """A destination of a source's data."""

    name: str
    pause_s: float
    """How long it asks to gather records after a delivery, besides the usual pause. Only
    `Shipper.flush` ends this pause early."""

    def deliver(self, first: int, items: ItemT_contra, /) -> int:
        """Accept data that starts at position `first`; an empty delivery is a heartbeat.

        Returns the position that is expected next. Raises `SinkUnavailable` or `SinkRefused`.
        """


class Shipper(Generic[ItemT]):
    """A thread that delivers a source to a sink; a file keeps its position between processes."""

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
        """`heartbeat_s`: interval of empty deliveries while the source is idle; None sends none."""
        self._source = source
        self._sink = sink
        self._position_file = position_file
        self._heartbeat_s = heartbeat_s
        self._batch_size = batch_size
        self._timing = timing
        self._position = min(_read_position(position_file), len(source))
        self._is_source_truncated = False
        self._backoff_s = 0.0
        self._reported_error: str | None = None
        # A generator of our own: drawing from the global one would change the training.
        self._random = random.Random()
        self._flush_requested = threading.Event()
        self._stop_requested = threading.Event()
        self._delivery_done = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"ship to {sink.name}", daemon=True)
        self.is_refused = False

    @property
    def name(self) -> str:
        return self._sink.name

    @property
    def pending(self) -> int:
        """Records, or bytes, that are not delivered yet."""
        return len(self._source) - self._position

    def start(self) -> None:
        self._thread.start()

    def flush(self) -> None:
        """From now on pause as little as possible, because a caller waits for the end."""
        self._flush_requested.set()

    def drain(self, deadline_s: float) -> bool:
        """Flush until nothing is pending, or until `time.monotonic()` is `deadline_s`.

        Returns whether everything was delivered.
        """
        self.flush()
        with self._delivery_done:
            self._delivery_done.wait_for(
                lambda: self.pending <= 0 or self.is_refused,
                timeout=max(0.0, deadline_s - time.monotonic()),
            )
        return self.pending <= 0

    def stop(self) -> bool:
        """End the thread without delivering the rest; returns whether it has ended.

        Waits for a delivery that is under way, but not for a sink that hangs.
        """
        self._stop_requested.set()
        self._flush_requested.set()
        self._source.wake()
        self._thread.join(self._timing.stop_timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop_requested.is_set() and not self.is_refused:
            has_grown = self._source.wait_for_growth(
                self._position,
                timeout_s=self._heartbeat_s or _IDLE_WAIT_S,
                should_stop=self._stop_requested.is_set,
            )
            if self._stop_requested.is_set():
                return
            if not has_grown and self._heartbeat_s is None:
                continue
            self._deliver_batch()
            with self._delivery_done:
                self._delivery_done.notify_all()
            self._pause()

    def _deliver_batch(self) -> None:
        try:
            items = self._source.read(self._position, limit=self._batch_size)
            self._advance(self._sink.deliver(self._position, items))
        except SinkRefused as error:
            log.warning("%s refuses this attempt: %s", self._sink.name, error)
            self.is_refused = True
        except SinkProtocolError as error:
            self._handle_fault(f"{error}")
        except SinkUnavailable as error:
            self._handle_unavailable(error)
        except Exception as error:  # never fail training for telemetry
            self._handle_fault(f"{type(error).__name__}: {error}", error)
        else:
            self._handle_success()

    def _advance(self, expected: int) -> None:
        """Continue at the position that the sink expects, as far as the source has it."""
        end = len(self._source)
        if expected > end and not self._is_source_truncated:
            log.error(
                "%s expects position %d of this run, but its folder ends at %d; was the folder "
                "replaced or restored?",
                self._sink.name,
                expected,
                end,
            )
        self._is_source_truncated = expected > end
        expected = min(expected, end)
        if expected != self._position:
            self._position = expected
            # Without the file, a later process delivers again, and the sink ignores repetitions.
            # It is written several times a second, too often for syncs of a shared disk.
            with contextlib.suppress(OSError):
                write_atomically(self._position_file, str(expected), durable=False)

    def _handle_unavailable(self, error: SinkUnavailable) -> None:
        if self._reported_error is None:
            log.warning(
                "%s is unavailable (%s); training continues, records are delivered later.",
                self._sink.name,
                error,
            )
            self._reported_error = ""
        doubled_s = max(self._timing.initial_backoff_s, self._backoff_s * 2)
        self._backoff_s = min(doubled_s, self._timing.max_backoff_s)

    def _handle_fault(self, message: str, error: Exception | None = None) -> None:
        """Log a repeated fault once, with its traceback if there is one, and retry slowly."""
        if self._reported_error != message:
            log.error(
                "Records cannot be delivered to %s: %s Training continues, records are kept.",
                self._sink.name,
                message,
                exc_info=error,
            )
            self._reported_error = message
        self._backoff_s = self._timing.max_backoff_s

    def _handle_success(self) -> None:
        if self._reported_error is not None:
            log.warning("%s is available again.", self._sink.name)
        self._reported_error = None
        self._backoff_s = 0.0

    def _pause(self) -> None:
        pause_s = self._backoff_s * self._random.uniform(0.5, 1.0)
        if not self._flush_requested.is_set():
            gathering_s = self._timing.batch_interval_s + self._sink.pause_s
            self._flush_requested.wait(max(pause_s, gathering_s))
        elif pause_s > 0.0:
            self._stop_requested.wait(min(pause_s, self._timing.max_flush_backoff_s))


def drain_all(shippers: Sequence[Shipper[Any]], deadline_s: float) -> bool:
    """Drain all shippers concurrently; returns whether all delivered everything."""
    for shipper in shippers:
        shipper.flush()
    drained = [shipper.drain(deadline_s) for shipper in shippers]
    return all(drained)


def _read_position(path: Path) -> int:
    """0 without a valid file: the sink ignores what it already has."""
    try:
        return max(0, int(path.read_text(encoding="ascii")))
    except (FileNotFoundError, ValueError):
        return 0
