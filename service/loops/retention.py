"""Deletes old things once an hour, a little in each turn; only the leader among the processes."""

import time
from collections.abc import Iterator
from datetime import timedelta

import structlog

from service.domain.retention import Pruned
from service.usecases.context import Context
from service.usecases.leadership import Leadership
from service.usecases.retention import prune

_LEASE = "retention"
_FIRST_DELAY = timedelta(minutes=5)
_INTERVAL = timedelta(hours=1)
_RETRY_INTERVAL = timedelta(minutes=1)
_MAX_TURN_S = 0.2

log = structlog.get_logger(__name__)


class RetentionLoop:
    """Goes on with the current pass in each turn, and begins the next one an hour after its end."""

    def __init__(self, ctx: Context, *, first_delay: timedelta = _FIRST_DELAY) -> None:
        self._ctx = ctx
        self._leadership = Leadership(_LEASE, ctx)
        self._next_at = ctx.clock.now() + first_delay
        self._steps: Iterator[Pruned] | None = None

    def run_once(self) -> None:
        """Do some steps of a pass, if one is due and this process has the lease."""
        if self._steps is None and self._ctx.clock.now() < self._next_at:
            return
        if not self._leadership.acquire():
            self._finish(_RETRY_INTERVAL)
            return
        steps, self._steps = self._steps or prune(self._ctx), None
        started_at_s = time.monotonic()
        try:
            for pruned in steps:
                _log(pruned)
                if time.monotonic() - started_at_s > _MAX_TURN_S:
                    self._steps = steps
                    return
        finally:
            if self._steps is None:
                self._finish(_INTERVAL)

    def _finish(self, pause: timedelta) -> None:
        self._steps = None
        self._next_at = self._ctx.clock.now() + pause


def _log(pruned: Pruned) -> None:
    if pruned.number:
        log.info(
            "retention.deleted",
            kind=pruned.kind,
            number=pruned.number,
            size_bytes=pruned.size_bytes,
        )
