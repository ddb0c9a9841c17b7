"""Decides which queued runs start, which running ones are preempted and why others wait; no I/O.

Runs are scheduled by priority, then by their project's dominant share for its weight, then by age.
Smaller runs are backfilled past one that does not fit. Once it has waited long enough, or once
others are preempted for it, capacity is held for it, so that it does not starve.

Equal requests are decided together: the reason to wait of one holds for all that follow, until a
decision changes what is free or stops a run.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from configs.spec.compute import Resources
from configs.spec.run import RunSpec
from service.domain.ports import Node
from service.domain.runs import Run, name_visible_to
from service.domain.scheduling.capacity import (
    choose_num_processes,
    count_slots,
    describe_resources,
    exclude,
    exclude_gpus,
)
from service.domain.scheduling.node_health import AvoidedNodes
from service.domain.scheduling.preemption import Preemption
from service.domain.scheduling.projects import Project
from service.domain.scheduling.slots import FreeCapacity
from service.domain.scheduling.snapshot import ClusterSnapshot, QueuedRun

_Request = tuple[int, int, int, int | None, int, int, bool]
"""What the reason to wait for capacity depends on: processes, CPUs, GPUs, least processes (None if
it needs all), micro-batches, priority, and whether backfilling has timed out."""


@dataclass(frozen=True)
class StartDecision:
    """The run starts."""

    run: Run
    processes: int
    avoid: frozenset[str] = frozenset()
    """Ids of nodes where it must not run."""

    packmates: tuple[Run, ...] = ()
    """Runs that start in the same process."""


@dataclass(frozen=True)
class WaitDecision:
    """The run stays queued."""

    run: Run
    position: int
    """Counted from 1."""

    why: str
    needs_capacity: bool = False
    """Whether it fits into the cluster, but not into what is free."""


@dataclass(frozen=True)
class PreemptDecision:
    """The run writes a checkpoint and stops."""

    run: Run
    preempted_for: Run


Decision = StartDecision | WaitDecision | PreemptDecision


def schedule_runs(snapshot: ClusterSnapshot) -> list[Decision]:
    """One decision for every queued run, and one for every run that is preempted."""
    return list(_SchedulingPass(snapshot).decisions())


class _SchedulingPass:
    """One pass over the queue, from its head to its end."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self._snapshot = snapshot
        self._avoid = _choose_avoided_nodes(snapshot)
        self._free = FreeCapacity(_exclude_avoided(snapshot.nodes, self._avoid))
        """For the next run in the queue."""

        self._preemption = Preemption(snapshot, self._free)
        self._shares = _ProjectShares(snapshot)
        self._reasons: dict[_Request, tuple[int, str, bool]] = {}
        """At which `_version` it was decided that a request waits, why, and `needs_capacity`."""

        self._position = 0

    def decisions(self) -> Iterator[Decision]:
        for queued in _iter_in_order(self._snapshot.queued, self._shares):
            yield from self._decide(queued)

    @property
    def _version(self) -> int:
        """Grows with every change of capacity and with every preempted run."""
        return len(self._free.changes) + self._preemption.num_preempted

    def _decide(self, queued: QueuedRun) -> Iterator[Decision]:
        run = queued.run
        why = queued.blocked_by or self._shares.exceeded_limit(run)
        if why is not None:
            yield from self._wait(queued, why)
            return
        request = self._make_request(queued)
        version, why, needs_capacity = self._reasons.get(request, (-1, "", False))
        if version == self._version and not self._preemption.has_preempted_for(run):
            yield from self._wait(queued, why, needs_capacity=needs_capacity)
            return
        resources = run.spec.resources
        slots = self._free.count_slots(resources)
        processes = choose_num_processes(run.spec, slots=slots, allows_fewer=queued.allows_fewer)
        if processes is None:
            yield from self._wait_for_capacity(queued, request)
            return
        self._free.reserve(resources, processes=processes)
        self._shares.add(run.project, resources, processes)
        avoid = self._avoid.for_gpus if resources.num_gpus else self._avoid.for_all
        yield StartDecision(run, processes, avoid, queued.packmates)

    def _make_request(self, queued: QueuedRun) -> _Request:
        spec = queued.run.spec
        resources = spec.resources
        is_elastic = queued.allows_fewer and isinstance(spec, RunSpec)
        return (
            resources.processes,
            resources.num_cpus,
            resources.num_gpus,
            resources.min_processes if is_elastic else None,
            spec.compute.grad_accumulation_steps if isinstance(spec, RunSpec) else 1,
            queued.run.queue.priority,
            self._has_backfill_timed_out(queued.run),
        )

    def _wait_for_capacity(self, queued: QueuedRun, request: _Request) -> Iterator[Decision]:
        run, resources, version = queued.run, queued.run.spec.resources, self._version
        possible = self._free.count_total_slots(resources)
        if possible < resources.processes:
            has = "none" if possible == 0 else f"room for {possible}"
            why = f"{describe_resources(resources)}; the cluster has {has}"
            self._reasons[request] = version, why, False
            yield from self._wait(queued, why)
            return
        after_stops = self._preemption.capacity_after_stops()
        fits_soon = after_stops.count_slots(resources) >= resources.processes
        victims = [] if fits_soon else self._preemption.choose_victims(run)
        stopping = self._preemption.stopping_for(run)
        self._preemption.stop(victims)
        for victim in victims:
            for preempted in (victim.run, *victim.packmates):
                yield PreemptDecision(preempted, run)
        if victims or fits_soon or self._has_backfill_timed_out(run):
            self._free.hold(resources)
        why = _describe_wait(run, [*stopping, *(victim.run for victim in victims)])
        if version == self._version and not stopping:
            self._reasons[request] = version, why, True
        yield from self._wait(queued, why, needs_capacity=True)

    def _has_backfill_timed_out(self, run: Run) -> bool:
        waited = self._snapshot.now - max(run.updated_at, run.retries.not_before or run.updated_at)
        return waited.total_seconds() >= self._snapshot.backfill_timeout_s

    def _wait(
        self, queued: QueuedRun, why: str, *, needs_capacity: bool = False
    ) -> Iterator[WaitDecision]:
        for run in (queued.run, *queued.packmates):
            self._position += 1
            yield WaitDecision(run, self._position, why, needs_capacity)


class _ProjectShares:
    """What each project uses, for fair sharing and its limits."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self._projects = snapshot.projects
        self._all_cpus = sum(node.total_cpus for node in snapshot.nodes) or 1.0
        self._all_gpus = sum(node.total_gpus for node in snapshot.nodes)
        self._runs: dict[str, int] = {}
        self._cpus: dict[str, float] = {}
        self._gpus: dict[str, float] = {}
        for running in snapshot.running:
            self.add(running.run.project, running.run.spec.resources, running.processes)

    def add(self, project: str, resources: Resources, processes: int) -> None:
        """Count a run that starts."""
        self._runs[project] = self._runs.get(project, 0) + 1
        self._cpus[project] = self._cpus.get(project, 0.0) + resources.num_cpus * processes
        self._gpus[project] = self._gpus.get(project, 0.0) + resources.num_gpus * processes

    def share(self, project: str) -> float:
        """The dominant share: the larger of its fractions of all CPUs and GPUs, over its weight."""
        gpus = self._gpus.get(project, 0.0) / self._all_gpus if self._all_gpus else 0.0
        cpus = self._cpus.get(project, 0.0) / self._all_cpus
        return max(gpus, cpus) / self._project(project).weight

    def exceeded_limit(self, run: Run) -> str | None:
        """The limit of the project that the run would exceed, as what it waits for."""
        project, resources = self._project(run.project), run.spec.resources
        runs = self._runs.get(run.project, 0)
        if project.max_runs is not None and runs >= project.max_runs:
            return f"project {project.name} to have fewer than {project.max_runs} runs at a time"
        gpus = self._gpus.get(run.project, 0.0) + resources.num_gpus * resources.processes
        if project.max_gpus is not None and resources.num_gpus and gpus > project.max_gpus:
            return f"project {project.name} to stay within its {project.max_gpus} GPUs"
        return None

    def _project(self, name: str) -> Project:
        return self._projects.get(name, Project(name))


def _iter_in_order(queued: Sequence[QueuedRun], shares: _ProjectShares) -> Iterator[QueuedRun]:
    """By priority, then by share, which changes as runs start, then by age."""
    by_priority: dict[int, dict[str, deque[QueuedRun]]] = {}
    for item in sorted(queued, key=lambda item: item.run.created_at):
        queues = by_priority.setdefault(item.run.queue.priority, {})
        queues.setdefault(item.run.project, deque()).append(item)
    for priority in sorted(by_priority, reverse=True):
        yield from _iter_by_share(by_priority[priority], shares)


def _iter_by_share(
    queues: dict[str, deque[QueuedRun]], shares: _ProjectShares
) -> Iterator[QueuedRun]:
    """The runs of one priority by project. A project's share changes only while its run is decided,
    so only that project has to be placed anew in the heap."""

    def entry(rank: int, project: str) -> tuple[float, datetime, int, str]:
        return shares.share(project), queues[project][0].run.created_at, rank, project

    heap = [entry(rank, project) for rank, project in enumerate(queues)]
    heapq.heapify(heap)
    while heap:
        *_, rank, project = heap[0]
        yield queues[project].popleft()
        if queues[project]:
            heapq.heapreplace(heap, entry(rank, project))
        else:
            heapq.heappop(heap)


def _choose_avoided_nodes(snapshot: ClusterSnapshot) -> AvoidedNodes:
    """The nodes to avoid, provided that every queued run still fits into the others."""
    for_all = snapshot.avoid.for_all
    if not for_all and not snapshot.avoid.for_gpus:
        return AvoidedNodes()
    demands: dict[tuple[int, int], Resources] = {}
    for queued in snapshot.queued:
        demand = queued.run.spec.resources
        shape = demand.num_cpus, demand.num_gpus
        if shape not in demands or demands[shape].processes < demand.processes:
            demands[shape] = demand
    for avoid in (snapshot.avoid, AvoidedNodes(for_all, for_all)):
        nodes = _exclude_avoided(snapshot.nodes, avoid)
        if all(
            count_slots(demand, nodes, total=True) >= demand.processes
            for demand in demands.values()
        ):
            return avoid
    return AvoidedNodes()


def _exclude_avoided(nodes: tuple[Node, ...], avoid: AvoidedNodes) -> tuple[Node, ...]:
    return exclude_gpus(exclude(nodes, avoid.for_all), avoid.for_gpus)


def _describe_wait(run: Run, stopping: Sequence[Run]) -> str:
    resources = describe_resources(run.spec.resources)
    if not stopping:
        return f"{resources} to become free"
    names = dict.fromkeys(name_visible_to(other, of=run) for other in stopping)
    return f"{resources}, to be released by {', '.join(list(names)[:3])}"
