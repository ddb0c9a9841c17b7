"""How often workers send heartbeats: the more of them run, the rarer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

MIN_INTERVAL_S = 2.0
_MAX_RATE_PER_S = 50.0
"""Of the heartbeats of all runs, until the interval is as long as it may be."""

_SAFE_SHARE = 1.0 / 3.0
"""Of a time limit: two heartbeats in a row may be lost, and a stop order has most of its time."""

_COUNT_AGE = timedelta(seconds=10)


def choose_interval_s(running: int, *, shortest_limit_s: float) -> float:
    """Seconds between two heartbeats of a run, while as many run.

    `shortest_limit_s`: the shortest of the times after which a silent worker counts as lost or
    stalled, or the job of one that should stop is ended.
    """
    longest_s = max(MIN_INTERVAL_S, _SAFE_SHARE * shortest_limit_s)
    return min(max(MIN_INTERVAL_S, running / _MAX_RATE_PER_S), longest_s)


@dataclass
class RunningCount:
    """The number of running runs as it was a moment ago: counting them takes a query."""

    _running: int = 0
    _counted_at: datetime | None = None

    def get(self, count: Callable[[], int], *, now: datetime) -> int:
        """The number; `count` is called only if the known one is too old."""
        counted_at = self._counted_at
        if counted_at is None or abs(now - counted_at) >= _COUNT_AGE:
            self._running, self._counted_at = count(), now
        return self._running
