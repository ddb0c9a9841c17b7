"""Finds nodes that fail attempts too often to place more work there; no I/O."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from configs.protocol.failure import FailureReason
from service.domain.runs import Attempt

AVOIDANCE_WINDOW_S = 1800.0
_NODE_FAULTS = frozenset(
    {
        FailureReason.NODE_LOST,
        FailureReason.STALLED,
        FailureReason.HOST_OUT_OF_MEMORY,
        FailureReason.DISK_FULL,
    }
)
_MAX_FAULTS = 3
_MAX_GPU_FAULTS = 2
"""Fewer than a run's attempts: a broken GPU is free again at once, so it would get the same run
every time until that run has failed for good."""


@dataclass(frozen=True)
class AvoidedNodes:
    """Ids of nodes where no more work should be placed."""

    for_all: frozenset[str] = frozenset()
    for_gpus: frozenset[str] = frozenset()
    """For work that needs a GPU; includes those of `for_all`."""


def find_nodes_to_avoid(attempts: Iterable[Attempt], *, now: datetime) -> AvoidedNodes:
    """Nodes where too many attempts failed within half an hour, with no success since.

    `attempts` have ended, in the order in which they did. A lost attempt that had a GPU does not
    keep work without GPUs away, since the GPU may be what failed.
    """
    since = now - timedelta(seconds=AVOIDANCE_WINDOW_S)
    ended = ((attempt, attempt.ended_at) for attempt in attempts)
    recent = [attempt for attempt, at in ended if at is not None and at >= since]
    for_all = _faulty_nodes(
        [attempt for attempt in recent if not _is_gpu_loss(attempt)], max_faults=_MAX_FAULTS
    )
    gpu_losses_and_successes = [
        attempt
        for attempt in recent
        if _is_gpu_loss(attempt) or (attempt.num_gpus and attempt.reason is None)
    ]
    with_lost_gpus = _faulty_nodes(gpu_losses_and_successes, max_faults=_MAX_GPU_FAULTS)
    with_any_fault = _faulty_nodes(recent, max_faults=_MAX_FAULTS)
    return AvoidedNodes(for_all, for_all | with_lost_gpus | with_any_fault)


def _is_gpu_loss(attempt: Attempt) -> bool:
    return attempt.num_gpus > 0 and attempt.reason is FailureReason.NODE_LOST


def _faulty_nodes(attempts: Iterable[Attempt], *, max_faults: int) -> frozenset[str]:
    """Nodes with at least `max_faults` since the last success there; a pack counts as one job."""
    faults: defaultdict[str, set[str]] = defaultdict(set)
    for attempt in attempts:
        if attempt.node_id is None:
            continue
        if attempt.reason in _NODE_FAULTS:
            faults[attempt.node_id].add(attempt.pack_job or attempt.submission_id)
        elif attempt.reason is None:
            faults[attempt.node_id].clear()
    return frozenset(node for node, jobs in faults.items() if len(jobs) >= max_faults)
