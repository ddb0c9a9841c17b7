"""How often and after which delay a failed attempt is retried, by cause."""

from dataclasses import dataclass
from typing import Final

from configs.protocol.failure import FailureReason


@dataclass(frozen=True)
class RetryPolicy:
    """How attempts that fail with a transient cause are retried."""

    initial_delay_s: float
    max_delay_s: float
    max_consecutive_failures: int | None = None
    """Failures in a row without progress, if fewer than for other causes."""

    is_first_immediate: bool = False
    """Whether the first failure is retried without a delay."""


RETRY_POLICIES: Final[dict[FailureReason, RetryPolicy]] = {
    FailureReason.NODE_LOST: RetryPolicy(5.0, 300.0, is_first_immediate=True),
    FailureReason.PREEMPTED: RetryPolicy(10.0, 300.0, is_first_immediate=True),
    FailureReason.PACK_OUT_OF_MEMORY: RetryPolicy(5.0, 300.0, is_first_immediate=True),
    FailureReason.STALLED: RetryPolicy(10.0, 600.0, is_first_immediate=True),
    FailureReason.TRACKER_UNAVAILABLE: RetryPolicy(30.0, 600.0),
    FailureReason.DISK_FULL: RetryPolicy(60.0, 900.0),
    FailureReason.HOST_OUT_OF_MEMORY: RetryPolicy(60.0, 900.0, max_consecutive_failures=2),
}
"""Causes that lie with the machines; any other would recur."""


def failure_limit(reason: FailureReason, *, limit: int) -> int:
    """The number of failures in a row without progress after which a run has failed."""
    policy_limit = RETRY_POLICIES[reason].max_consecutive_failures
    return limit if policy_limit is None else min(policy_limit, limit)


def retry_delay_s(reason: FailureReason, *, consecutive_failures: int) -> float:
    """The delay after failure number `consecutive_failures` in a row; it doubles up to a limit."""
    policy = RETRY_POLICIES[reason]
    if policy.is_first_immediate and consecutive_failures == 1:
        return 0.0
    doublings = consecutive_failures - (2 if policy.is_first_immediate else 1)
    return min(policy.initial_delay_s * 2.0 ** min(doublings, 16), policy.max_delay_s)
