"""The state of queue and cluster at the start of a scheduling pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from configs.spec.compute import Resources
from service.domain.ports import Node
from service.domain.runs import Run
from service.domain.scheduling.node_health import AvoidedNodes
from service.domain.scheduling.projects import Project


@dataclass(frozen=True)
class QueuedRun:
    """A run in the queue."""

    run: Run
    blocked_by: str | None = None
    """What it waits for besides capacity, as its teacher; None if it could start."""

    allows_fewer: bool = False
    """Whether it may start with fewer processes than its spec asks for."""

    packmates: tuple[Run, ...] = ()
    """Runs that would start in the same process; they need no capacity of their own."""


@dataclass(frozen=True)
class RunningRun:
    """A run that occupies capacity."""

    run: Run
    processes: int
    node_id: str | None = None
    """None if it has several processes, or if its node is unknown."""

    packmates: tuple[Run, ...] = ()
    """Runs in the same process."""

    @property
    def is_stopping(self) -> bool:
        """Whether its capacity will be released soon."""
        return all(run.stop_kind is not None for run in (self.run, *self.packmates))

    @property
    def capacity(self) -> "ReleasedCapacity":
        """What it will release when it ends."""
        return ReleasedCapacity(self.run.spec.resources, self.processes, self.node_id)


@dataclass(frozen=True)
class ReleasedCapacity:
    """What an attempt released so recently that the cluster may not report it as free yet."""

    resources: Resources
    processes: int
    node_id: str | None = None


@dataclass(frozen=True)
class ClusterSnapshot:
    """The input of a scheduling pass."""

    now: datetime
    nodes: tuple[Node, ...]
    """What started but is not reported by the cluster yet is subtracted from the free capacity."""

    queued: Sequence[QueuedRun] = ()
    running: Sequence[RunningRun] = ()
    released: Sequence[ReleasedCapacity] = ()
    projects: Mapping[str, Project] = field(default_factory=dict)
    avoid: AvoidedNodes = field(default_factory=AvoidedNodes)
    backfill_timeout_s: float = 120.0
    """How long smaller runs may pass a run before capacity is held for it."""
