"""Advances unfinished autopilots. Only the leader runs this loop."""

from datetime import datetime
from functools import partial

from service.domain.autopilot.autopilots import UNFINISHED_PHASES, Autopilot, AutopilotPhase
from service.loops.base import for_each_isolated
from service.usecases.autopilots.advance import advance_probing, advance_search
from service.usecases.autopilots.delivery import advance_delivery
from service.usecases.context import Context
from service.usecases.leadership import Leadership

LEASE = "autopilots"

_INTERVAL_S = 5.0
"""Runs take minutes, and an autopilot has hundreds of them to look at."""

_ADVANCE = {
    AutopilotPhase.PROBING: advance_probing,
    AutopilotPhase.SEARCHING: advance_search,
    AutopilotPhase.DELIVERING: advance_delivery,
}


class AutopilotLoop:
    """Advances every unfinished autopilot by what can be done now."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._leadership = Leadership(LEASE, ctx)
        self._advanced_at: datetime | None = None

    def run_once(self) -> None:
        """Advance each autopilot, unless it was done a moment ago."""
        now = self._ctx.clock.now()
        if not self._leadership.acquire() or not self._is_due(now):
            return
        self._advanced_at = now
        with self._ctx.store.snapshot() as uow:
            active = uow.autopilots.in_phases(*UNFINISHED_PHASES)
        for_each_isolated(
            active,
            partial(_advance, ctx=self._ctx),
            loop=LEASE,
            id_field="autopilot_id",
            counters=self._ctx.counters,
        )

    def _is_due(self, now: datetime) -> bool:
        if self._advanced_at is None:
            return True
        elapsed_s = (now - self._advanced_at).total_seconds()
        return not 0 <= elapsed_s < _INTERVAL_S


def _advance(autopilot: Autopilot, *, ctx: Context) -> None:
    _ADVANCE[autopilot.phase](autopilot, ctx=ctx)
