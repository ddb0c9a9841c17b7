"""Limits the requests of each caller within a moving window of time."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from limits import RateLimitItem

_FORGOTTEN_PER_REQUEST = 2
"""Idle callers that one request removes: more than it adds, so that their number stays small."""


class MovingWindow:
    """Counts the requests of each caller. It belongs to the event loop's thread.

    The storage of `limits` starts a thread for every request, which then looks at all callers.
    """

    def __init__(
        self, limit: RateLimitItem, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_requests, self._window_s = limit.amount, float(limit.get_expiry())
        self._clock = clock
        self._times_s: OrderedDict[str, deque[float]] = OrderedDict()
        """The times of the requests in the window; the caller that was idle the longest first."""

    @property
    def callers(self) -> int:
        """The number of callers that are remembered."""
        return len(self._times_s)

    def hit(self, key: str) -> float:
        """Count a request: 0.0 if it is allowed, or the seconds after which another one will be.

        A refused request is not counted.
        """
        if self._max_requests == 0:
            return self._window_s
        now_s = self._clock()
        oldest_s = now_s - self._window_s
        self._forget_idle(oldest_s)
        times_s = self._times_s.setdefault(key, deque())
        while times_s and times_s[0] <= oldest_s:
            times_s.popleft()
        if len(times_s) >= self._max_requests:
            return times_s[0] - oldest_s
        times_s.append(now_s)
        self._times_s.move_to_end(key)
        return 0.0

    def _forget_idle(self, oldest_s: float) -> None:
        for _ in range(_FORGOTTEN_PER_REQUEST):
            key = next(iter(self._times_s), None)
            if key is None or self._times_s[key][-1] > oldest_s:
                return
            del self._times_s[key]
