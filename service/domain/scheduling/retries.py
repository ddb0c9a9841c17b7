"""How often and when a bad end is followed by another attempt: one row for each cause."""

from dataclasses import dataclass
from typing import Final

from configs.protocol.failure import FailureReason


@dataclass(frozen=True)
class RetryPolicy:
    """The patience with a cause that may pass."""

    initial_delay_s: float
    max_delay_s: float
    max_consecutive_failures: int | None = None
    """Bad ends in a row without progress, if fewer than for other causes."""

    is_first_immediate: bool = False
    """Whether the first one is followed by an attempt without any pause."""


RETRY_POLICIES: Final[dict[FailureReason, RetryPolicy]] = {
    FailureReason.NODE_LOST: RetryPolicy(5.0, 300.0, is_first_immediate=True),
    FailureReason.PREEMPTED: RetryPolicy(10.0, 300.0, is_first_immediate=True),
    FailureReason.PACK_OUT_OF_MEMORY: RetryPolicy(5.0, 300.0, is_first_immediate=True),
    FailureReason.STALLED: RetryPolicy(10.0, 600.0, is_first_immediate=True),
    FailureReason.TRACKER_UNAVAILABLE: RetryPolicy(30.0, 600.0),
    FailureReason.DISK_FULL: RetryPolicy(60.0, 900.0),
    FailureReason.HOST_OUT_OF_MEMORY: RetryPolicy(60.0, 900.0, max_consecutive_failures=2),
}
"""Causes of the machines. What is not here would end the same way again."""


def failure_limit(reason: FailureReason, *, limit: int) -> int:
    """Bad ends in a row, without progress, after which a run has failed."""
    own = RETRY_POLICIES[reason].max_consecutive_failures
    return limit if own is None else min(own, limit)


def retry_delay_s(reason: FailureReason, *, consecutive_failures: int) -> float:
    """How long a run rests after its bad end number `consecutive_failures` in a row; it doubles."""
    rule = RETRY_POLICIES[reason]
    if rule.is_first_immediate and consecutive_failures == 1:
        return 0.0
    doublings = consecutive_failures - (2 if rule.is_first_immediate else 1)
    return min(rule.initial_delay_s * 2.0 ** min(doublings, 16), rule.max_delay_s)
