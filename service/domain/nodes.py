"""Which nodes are better left alone: pure."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from configs.spec import FailureReason
from service.domain.runs import Attempt

AVOIDED_FOR_S = 1800.0
_FAULTS_OF_A_NODE = frozenset(
    {
        FailureReason.NODE_LOST,
        FailureReason.STALLED,
        FailureReason.HOST_OUT_OF_MEMORY,
        FailureReason.DISK_FULL,
    }
)
_MOST_FAULTS = 3


def nodes_to_avoid(attempts: Iterable[Attempt], *, now: datetime) -> frozenset[str]:
    """Nodes where attempts ended badly three times in half an hour, none well since.

    `attempts` are those that have ended, in the order in which they did.
    """
    faults: Counter[str] = Counter()
    since = now - timedelta(seconds=AVOIDED_FOR_S)
    for attempt in attempts:
        if attempt.node_id is None or attempt.ended_at is None or attempt.ended_at < since:
            continue
        if attempt.reason in _FAULTS_OF_A_NODE:
            faults[attempt.node_id] += 1
        elif attempt.reason is None:
            faults[attempt.node_id] = 0
    return frozenset(node for node, count in faults.items() if count >= _MOST_FAULTS)
