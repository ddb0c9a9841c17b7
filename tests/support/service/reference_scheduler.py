"""The scheduler as it was first written: each queued run is compared with every node and run.

Slow and simple, so that the decisions of `schedule_runs` can be compared with its own.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from configs.spec.compute import Resources
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
from service.domain.scheduling.projects import Project
from service.domain.scheduling.queue import (
    Decision,
    PreemptDecision,
    StartDecision,
    WaitDecision,
)
from service.domain.scheduling.snapshot import ClusterSnapshot, QueuedRun, RunningRun


def schedule_by_reference(snapshot: ClusterSnapshot) -> list[Decision]:
    """What `schedule_runs` must return for this snapshot."""
    return list(_ReferencePass(snapshot).decisions())


class _ReferencePass:
    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self._snapshot = snapshot
        self._avoid = _choose_avoided_nodes(snapshot)
        self._nodes = _exclude_avoided(snapshot.nodes, self._avoid)

        self._shares = _ReferenceShares(snapshot)
        self._stopping_ids = {running.run.id for running in snapshot.running if running.is_stopping}
        self._position = 0

    def decisions(self) -> Iterator[Decision]:
        for queued in self._in_order():
            yield from self._decide(queued)

    def _in_order(self) -> Iterator[QueuedRun]:
        by_priority: dict[int, dict[str, deque[QueuedRun]]] = {}
        for queued in sorted(self._snapshot.queued, key=lambda queued: queued.run.created_at):
            queues = by_priority.setdefault(queued.run.queue.priority, {})
            queues.setdefault(queued.run.project, deque()).append(queued)
        for priority in sorted(by_priority, reverse=True):
            queues = by_priority[priority]
            while queues:
                project = min(
                    queues,
                    key=lambda name: (self._shares.share(name), queues[name][0].run.created_at),
                )
                yield queues[project].popleft()
                if not queues[project]:
                    del queues[project]

    def _decide(self, queued: QueuedRun) -> Iterator[Decision]:
        run, resources = queued.run, queued.run.spec.resources
        why = queued.blocked_by or self._shares.exceeded_limit(run)
        if why is not None:
            yield from self._wait(queued, why)
            return
        slots = count_slots(resources, self._nodes, total=False)
        processes = choose_num_processes(run.spec, slots=slots, allows_fewer=queued.allows_fewer)
        if processes is None:
            yield from self._wait_for_capacity(queued)
            return
        self._nodes = reserve(self._nodes, resources, processes=processes)
        self._shares.add(run.project, resources, processes)
        avoid = self._avoid.for_gpus if resources.num_gpus else self._avoid.for_all
        yield StartDecision(run, processes, avoid, queued.packmates)

    def _wait_for_capacity(self, queued: QueuedRun) -> Iterator[Decision]:
        run, resources = queued.run, queued.run.spec.resources
        possible = count_slots(resources, self._nodes, total=True)
        if possible < resources.processes:
            has = "none" if possible == 0 else f"room for {possible}"
            yield from self._wait(queued, f"{describe_resources(resources)}; the cluster has {has}")
            return
        soon = self._nodes_after_stops()
        fits_soon = count_slots(resources, soon, total=False) >= resources.processes
        victims = [] if fits_soon else self._choose_victims(run, soon)
        stopping = [
            running.run
            for running in self._snapshot.running
            if running.run.id in self._stopping_ids and running.run.queue.preempted_for == run.id
        ]
        self._stopping_ids |= {victim.run.id for victim in victims}
        for victim in victims:
            for preempted in (victim.run, *victim.packmates):
                yield PreemptDecision(preempted, run)
        if victims or fits_soon or self._has_backfill_timed_out(run):
            self._nodes = hold(self._nodes, resources)
        why = _describe_wait(run, [*stopping, *(victim.run for victim in victims)])
        yield from self._wait(queued, why, needs_capacity=True)

    def _nodes_after_stops(self) -> tuple[Node, ...]:
        nodes = self._nodes
        for released in self._snapshot.released:
            nodes = release(
                nodes,
                released.resources,
                processes=released.processes,
                node_id=released.node_id,
            )
        for running in self._snapshot.running:
            if running.run.id in self._stopping_ids:
                nodes = _release_run(running, nodes)
        return nodes

    def _choose_victims(self, run: Run, soon: tuple[Node, ...]) -> list[RunningRun]:
        resources = run.spec.resources
        candidates = [
            running
            for running in self._snapshot.running
            if running.run.queue.priority < run.queue.priority
            and running.run.task == "train"
            and running.run.id not in self._stopping_ids
        ]
        candidates.sort(key=lambda running: running.run.updated_at, reverse=True)
        candidates.sort(key=lambda running: running.run.queue.priority)
        chosen: list[RunningRun] = []
        for candidate in candidates:
            chosen.append(candidate)
            soon = _release_run(candidate, soon)
            if count_slots(resources, soon, total=False) >= resources.processes:
                return _drop_superfluous(chosen, resources, self._nodes_after_stops())
        return []

    def _has_backfill_timed_out(self, run: Run) -> bool:
        waited = self._snapshot.now - max(run.updated_at, run.retries.not_before or run.updated_at)
        return waited.total_seconds() >= self._snapshot.backfill_timeout_s

    def _wait(
        self, queued: QueuedRun, why: str, *, needs_capacity: bool = False
    ) -> Iterator[WaitDecision]:
        for run in (queued.run, *queued.packmates):
            self._position += 1
            yield WaitDecision(run, self._position, why, needs_capacity)


class _ReferenceShares:
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
        self._runs[project] = self._runs.get(project, 0) + 1
        self._cpus[project] = self._cpus.get(project, 0.0) + resources.num_cpus * processes
        self._gpus[project] = self._gpus.get(project, 0.0) + resources.num_gpus * processes

    def share(self, project: str) -> float:
        gpus = self._gpus.get(project, 0.0) / self._all_gpus if self._all_gpus else 0.0
        cpus = self._cpus.get(project, 0.0) / self._all_cpus
        return max(gpus, cpus) / self._project(project).weight

    def exceeded_limit(self, run: Run) -> str | None:
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


def _choose_avoided_nodes(snapshot: ClusterSnapshot) -> AvoidedNodes:
    for_all = snapshot.avoid.for_all
    for avoid in (snapshot.avoid, AvoidedNodes(for_all, for_all)):
        nodes = _exclude_avoided(snapshot.nodes, avoid)
        demands = (queued.run.spec.resources for queued in snapshot.queued)
        if all(count_slots(demand, nodes, total=True) >= demand.processes for demand in demands):
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


def _release_run(running: RunningRun, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    return release(
        nodes,
        running.run.spec.resources,
        processes=running.processes,
        node_id=running.node_id,
    )


def _drop_superfluous(
    victims: list[RunningRun], resources: Resources, soon: tuple[Node, ...]
) -> list[RunningRun]:
    needed = list(victims)
    for victim in victims[:-1]:
        remaining = [other for other in needed if other is not victim]
        nodes = soon
        for other in remaining:
            nodes = _release_run(other, nodes)
        if count_slots(resources, nodes, total=False) >= resources.processes:
            needed = remaining
    return needed


def reserve(nodes: tuple[Node, ...], resources: Resources, *, processes: int) -> tuple[Node, ...]:
    return tuple(_reserve(nodes, resources, processes))


def release(
    nodes: tuple[Node, ...], resources: Resources, *, processes: int, node_id: str | None
) -> tuple[Node, ...]:
    return tuple(_release(nodes, resources, processes, node_id))


def hold(nodes: tuple[Node, ...], resources: Resources) -> tuple[Node, ...]:
    remaining, held = resources.processes, {}
    by_free_capacity = sorted(
        range(len(nodes)),
        key=lambda index: (nodes[index].free_gpus, nodes[index].free_cpus),
        reverse=True,
    )
    for index in by_free_capacity:
        held[index] = min(remaining, _count_node_slots(resources, node=nodes[index], total=True))
        remaining -= held[index]
    return tuple(_hold(node, resources, held[index]) for index, node in enumerate(nodes))


def _count_node_slots(resources: Resources, *, node: Node, total: bool) -> int:
    cpus, gpus = (node.total_cpus, node.total_gpus) if total else (node.free_cpus, node.free_gpus)
    by_cpus = int(cpus // resources.num_cpus)
    return by_cpus if resources.num_gpus == 0 else min(by_cpus, int(gpus // resources.num_gpus))


def _reserve(nodes: tuple[Node, ...], resources: Resources, processes: int) -> Iterator[Node]:
    for node in nodes:
        reserved = min(processes, _count_node_slots(resources, node=node, total=False))
        processes -= reserved
        yield replace(
            node,
            free_cpus=node.free_cpus - reserved * resources.num_cpus,
            free_gpus=node.free_gpus - reserved * resources.num_gpus,
        )


def _release(
    nodes: tuple[Node, ...], resources: Resources, processes: int, node_id: str | None
) -> Iterator[Node]:
    for node in nodes:
        released = 0
        if node_id is None or node.id == node_id:
            in_use = replace(
                node,
                free_cpus=node.total_cpus - node.free_cpus,
                free_gpus=node.total_gpus - node.free_gpus,
            )
            released = min(processes, _count_node_slots(resources, node=in_use, total=False))
        processes -= released
        yield replace(
            node,
            free_cpus=node.free_cpus + released * resources.num_cpus,
            free_gpus=node.free_gpus + released * resources.num_gpus,
        )


def _hold(node: Node, resources: Resources, processes: int) -> Node:
    return replace(
        node,
        free_cpus=max(0.0, node.free_cpus - processes * resources.num_cpus),
        free_gpus=max(0.0, node.free_gpus - processes * resources.num_gpus),
    )
