"""Which capacity stopping runs will release, and which runs have to stop for another; no I/O."""

from bisect import insort
from collections import defaultdict
from collections.abc import Sequence

from configs.spec.compute import Resources
from service.domain.runs import Run
from service.domain.scheduling.slots import FreeCapacity
from service.domain.scheduling.snapshot import ClusterSnapshot, ReleasedCapacity, RunningRun

_ROUNDING = 1e-6
_MIN_CANDIDATES_TO_CHECK = 16
"""So many candidates are tried before it is checked whether all of them together would do."""


class Preemption:
    """The running runs that stop or could be stopped, over the free capacity of a pass.

    The capacity after all stops is updated node by node. If a run stops whose node is unknown, its
    capacity may go to any node, and all of it is computed anew.
    """

    def __init__(self, snapshot: ClusterSnapshot, free: FreeCapacity) -> None:
        self._free = free
        self._ranks = {running.run.id: rank for rank, running in enumerate(snapshot.running)}
        self._stopping = [running for running in snapshot.running if running.is_stopping]
        self._stopping_ids = {running.run.id for running in self._stopping}
        self._preempted_for: defaultdict[str, list[RunningRun]] = defaultdict(list)
        for running in snapshot.running:
            if running.run.queue.preempted_for is not None:
                self._preempted_for[running.run.queue.preempted_for].append(running)
        self._released = tuple(snapshot.released)
        self._candidates = _sort_candidates(snapshot.running, self._stopping_ids)
        self._releasable: dict[int, dict[int, tuple[float, float]] | None] = {}
        """By priority, what the candidates below it occupy on each node; None if the node of any is
        unknown."""

        self.num_preempted = 0
        self._num_changes = 0
        self._rebuild()

    def has_preempted_for(self, run: Run) -> bool:
        """Whether runs were preempted for `run` in an earlier pass."""
        return run.id in self._preempted_for

    def stopping_for(self, run: Run) -> list[Run]:
        """The stopping runs that were preempted for `run` in an earlier pass."""
        return [
            running.run
            for running in self._preempted_for.get(run.id, ())
            if running.run.id in self._stopping_ids
        ]

    def capacity_after_stops(self) -> FreeCapacity:
        """What is free once stopping runs are gone and all released capacity is reported."""
        changed = self._free.changes[self._num_changes :]
        self._num_changes = len(self._free.changes)
        if changed and self._by_node is None:
            self._rebuild()
        elif self._by_node is not None:
            for index in dict.fromkeys(changed):
                self._replay(index)
        return self._soon

    def choose_victims(self, run: Run) -> list[RunningRun]:
        """Training runs of lower priority whose stop makes `run` fit; empty if none suffice.

        Those of the lowest priority go first, of these the youngest.
        """
        resources = run.spec.resources
        chosen: list[RunningRun] = []
        nodes = self.capacity_after_stops().copy()
        for candidate in self._candidates:
            if candidate.run.queue.priority >= run.queue.priority:
                break
            if len(chosen) == _MIN_CANDIDATES_TO_CHECK and not self._can_suffice(run):
                break
            chosen.append(candidate)
            _release(candidate.capacity, nodes)
            if nodes.count_slots(resources) >= resources.processes:
                return self._drop_superfluous(chosen, resources, nodes)
        return []

    def stop(self, victims: Sequence[RunningRun]) -> None:
        """Count victims as stopping from now on."""
        if not victims:
            return
        self.num_preempted += len(victims)
        self._stopping_ids |= {victim.run.id for victim in victims}
        self._candidates = [
            candidate
            for candidate in self._candidates
            if candidate.run.id not in self._stopping_ids
        ]
        self._releasable.clear()
        for victim in victims:
            insort(self._stopping, victim, key=self._rank)
        if self._by_node is None or not self._are_nodes_known(victims):
            self._rebuild()
            return
        for victim in victims:
            for index in self._free.nodes_of(victim.node_id):
                insort(self._by_node[index], (self._rank(victim), victim.capacity), key=_first)
                self._replay(index)

    def _are_nodes_known(self, running: Sequence[RunningRun]) -> bool:
        return all(len(self._free.nodes_of(item.node_id)) <= 1 for item in running)

    def _rank(self, running: RunningRun) -> int:
        return self._ranks[running.run.id]

    def _rebuild(self) -> None:
        """Release everything in order, over the free capacity as it is now."""
        self._num_changes = len(self._free.changes)
        self._soon = self._free.copy()
        self._by_node: defaultdict[int, list[tuple[int, ReleasedCapacity]]] | None
        self._by_node = defaultdict(list)
        ranked = [(-1, released) for released in self._released]
        ranked += [(self._rank(running), running.capacity) for running in self._stopping]
        for rank, released in ranked:
            _release(released, self._soon)
            indexes = self._free.nodes_of(released.node_id)
            if len(indexes) > 1:
                self._by_node = None
            elif self._by_node is not None:
                for index in indexes:
                    self._by_node[index].append((rank, released))

    def _replay(self, index: int) -> None:
        assert self._by_node is not None
        self._soon.set_free(index, self._free.free_of(index))
        for _, released in self._by_node.get(index, ()):
            _release(released, self._soon)

    def _can_suffice(self, run: Run) -> bool:
        """False if `run` would not fit even if all runs of lower priority stopped."""
        priority, resources = run.queue.priority, run.spec.resources
        if priority not in self._releasable:
            self._releasable[priority] = self._sum_releasable(priority)
        releasable = self._releasable[priority]
        if releasable is None:
            return True
        nodes = self.capacity_after_stops().copy()
        for index, (more_cpus, more_gpus) in releasable.items():
            cpus, gpus = nodes.free_of(index)
            nodes.set_free(index, (cpus + more_cpus + _ROUNDING, gpus + more_gpus + _ROUNDING))
        return nodes.count_slots(resources) >= resources.processes

    def _sum_releasable(self, priority: int) -> dict[int, tuple[float, float]] | None:
        sums: dict[int, tuple[float, float]] = {}
        for candidate in self._candidates:
            if candidate.run.queue.priority >= priority:
                break
            indexes = self._free.nodes_of(candidate.node_id)
            if len(indexes) > 1:
                return None
            resources, processes = candidate.run.spec.resources, candidate.processes
            for index in indexes:
                cpus, gpus = sums.get(index, (0.0, 0.0))
                cpus += processes * resources.num_cpus
                sums[index] = cpus, gpus + processes * resources.num_gpus
        return sums

    def _drop_superfluous(
        self, victims: list[RunningRun], resources: Resources, nodes: FreeCapacity
    ) -> list[RunningRun]:
        """The victims without those that a later, larger one has made unnecessary.

        `nodes` is the capacity after all of them have stopped.
        """
        needed = list(victims)
        are_nodes_known = self._are_nodes_known(victims)
        for victim in victims[:-1]:
            remaining = [other for other in needed if other is not victim]
            if are_nodes_known:
                fits = self._fits_without(victim, remaining, resources, nodes)
            else:
                fits = self._fits_after(remaining, resources)
            if fits:
                needed = remaining
        return needed

    def _fits_without(
        self,
        victim: RunningRun,
        remaining: Sequence[RunningRun],
        resources: Resources,
        nodes: FreeCapacity,
    ) -> bool:
        """Whether `nodes` suffice without what `victim` releases; if so, it is taken from them."""
        for index in self._free.nodes_of(victim.node_id):
            before = nodes.free_of(index)
            nodes.set_free(index, self._soon.free_of(index))
            for other in remaining:
                if index in self._free.nodes_of(other.node_id):
                    _release(other.capacity, nodes)
            if nodes.count_slots(resources) < resources.processes:
                nodes.set_free(index, before)
                return False
        return True

    def _fits_after(self, stopped: Sequence[RunningRun], resources: Resources) -> bool:
        nodes = self.capacity_after_stops().copy()
        for running in stopped:
            _release(running.capacity, nodes)
        return nodes.count_slots(resources) >= resources.processes


def _sort_candidates(running: Sequence[RunningRun], stopping_ids: set[str]) -> list[RunningRun]:
    """Training runs that do not stop yet: the lowest priority first, of equals the youngest."""
    candidates = [
        item for item in running if item.run.task == "train" and item.run.id not in stopping_ids
    ]
    candidates.sort(key=lambda item: item.run.updated_at, reverse=True)
    candidates.sort(key=lambda item: item.run.queue.priority)
    return candidates


def _first(ranked: tuple[int, ReleasedCapacity]) -> int:
    return ranked[0]


def _release(released: ReleasedCapacity, nodes: FreeCapacity) -> None:
    nodes.release(released.resources, processes=released.processes, node_id=released.node_id)
