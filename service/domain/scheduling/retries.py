"""How often and when a bad end is followed by another attempt: one row for each cause."""

from dataclasses import dataclass
from typing import Final

from configs.protocol.failure import FailureReason


@dataclass(frozen=True)
class Retry:
    """The patience with a cause that may pass."""

    first_pause_s: float
    longest_pause_s: float
    most_strikes: int | None = None
    """Bad ends in a row without progress, if fewer than for other causes."""

    first_at_once: bool = False
    """Whether the first one is followed by an attempt without any pause."""


RETRIES: Final[dict[FailureReason, Retry]] = {
    FailureReason.NODE_LOST: Retry(5.0, 300.0, first_at_once=True),
    FailureReason.PREEMPTED: Retry(10.0, 300.0, first_at_once=True),
    FailureReason.PACK_OUT_OF_MEMORY: Retry(5.0, 300.0, first_at_once=True),
    FailureReason.STALLED: Retry(10.0, 600.0, first_at_once=True),
    FailureReason.TRACKER_UNAVAILABLE: Retry(30.0, 600.0),
    FailureReason.DISK_FULL: Retry(60.0, 900.0),
    FailureReason.HOST_OUT_OF_MEMORY: Retry(60.0, 900.0, most_strikes=2),
}
"""Causes of the machines. What is not here would end the same way again."""


def most_strikes(reason: FailureReason, *, limit: int) -> int:
    """Bad ends in a row, without progress, after which a run has failed."""
    own = RETRIES[reason].most_strikes
    return limit if own is None else min(own, limit)


def pause_s(reason: FailureReason, *, strikes: int) -> float:
    """How long a run rests after its bad end number `strikes` in a row; it doubles."""
    rule = RETRIES[reason]
    if rule.first_at_once and strikes == 1:
        return 0.0
    doublings = strikes - (2 if rule.first_at_once else 1)
    return min(rule.first_pause_s * 2.0 ** min(doublings, 16), rule.longest_pause_s)
