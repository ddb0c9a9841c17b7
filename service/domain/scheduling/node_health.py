"""Which nodes are better left alone: pure."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from configs.protocol.failure import FailureReason
from service.domain.runs import Attempt

AVOIDANCE_WINDOW_S = 1800.0
_FAULTS_OF_A_NODE = frozenset(
    {
        FailureReason.NODE_LOST,
        FailureReason.STALLED,
        FailureReason.HOST_OUT_OF_MEMORY,
        FailureReason.DISK_FULL,
    }
)
_MOST_FAULTS = 3
_MOST_GPU_FAULTS = 2
"""Fewer than the attempts that a run has, for a broken GPU is free again at once: it would take
the same run each time, until that has failed for good."""


@dataclass(frozen=True)
class AvoidedNodes:
    """Ids of nodes that are better left alone."""

    for_all: frozenset[str] = frozenset()
    for_gpus: frozenset[str] = frozenset()
    """By what needs a GPU; these and those for all."""


def find_nodes_to_avoid(attempts: Iterable[Attempt], *, now: datetime) -> AvoidedNodes:
    """Nodes where attempts ended badly too often in half an hour, none well since.

    `attempts` are those that have ended, in the order in which they did. A lost attempt that had a
    GPU does not keep work away that needs none: the GPU may be what failed.
    """
    since = now - timedelta(seconds=AVOIDANCE_WINDOW_S)
    recent = [one for one in attempts if one.ended_at is not None and one.ended_at >= since]
    for_all = _at_fault([one for one in recent if not _is_gpu_loss(one)], most=_MOST_FAULTS)
    lost_or_well = [
        one for one in recent if _is_gpu_loss(one) or (one.num_gpus and one.reason is None)
    ]
    lost = _at_fault(lost_or_well, most=_MOST_GPU_FAULTS)
    return AvoidedNodes(for_all, for_all | lost | _at_fault(recent, most=_MOST_FAULTS))


def _is_gpu_loss(attempt: Attempt) -> bool:
    return attempt.num_gpus > 0 and attempt.reason is FailureReason.NODE_LOST


def _at_fault(attempts: Iterable[Attempt], *, most: int) -> frozenset[str]:
    """Members of a pack lose their node together, which is one fault."""
    faults: defaultdict[str, set[str]] = defaultdict(set)
    for attempt in attempts:
        if attempt.node_id is None:
            continue
        if attempt.reason in _FAULTS_OF_A_NODE:
            faults[attempt.node_id].add(attempt.pack_job or attempt.submission_id)
        elif attempt.reason is None:
            faults[attempt.node_id].clear()
    return frozenset(node for node, jobs in faults.items() if len(jobs) >= most)
