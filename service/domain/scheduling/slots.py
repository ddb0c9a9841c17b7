"""The free capacity of many nodes, which counts slots once for each shape of process; no I/O.

A slot is what one process of a run needs on one node. A change costs as much as the nodes that it
changes, so that thousands of queued runs can be compared with hundreds of nodes.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from configs.spec.compute import Resources
from service.domain.ports import Node
from service.domain.scheduling.capacity import Shape, count_node_slots, shape_of


class FreeCapacity:
    """The free CPUs and GPUs of nodes, at least 0 and at most their total."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = tuple(nodes)
        self._totals = [(node.total_cpus, node.total_gpus) for node in nodes]
        self._free = [(node.free_cpus, node.free_gpus) for node in nodes]
        self._indexes: defaultdict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(nodes):
            self._indexes[node.id].append(index)
        self._total_slots: dict[Shape, list[int]] = {}
        self._slots: dict[Shape, list[int]] = {}
        """By node, of each shape that was asked for."""

        self._num_slots: dict[Shape, int] = {}
        self._by_free: list[tuple[float, float, int]] | None = None
        """Sorted negative free GPUs, negative free CPUs and index of each node."""

        self.changes: list[int] = []
        """Indexes of the changed nodes, in order."""

    def copy(self) -> "FreeCapacity":
        """An independent copy; totals are shared."""
        other = FreeCapacity(())
        other._nodes, other._totals, other._indexes = self._nodes, self._totals, self._indexes
        other._total_slots = self._total_slots
        other._free = list(self._free)
        return other

    def to_nodes(self) -> tuple[Node, ...]:
        """The nodes with their capacity as it is now."""
        return tuple(
            replace(node, free_cpus=cpus, free_gpus=gpus)
            for node, (cpus, gpus) in zip(self._nodes, self._free, strict=True)
        )

    def count_slots(self, resources: Resources) -> int:
        """How many processes fit into what is free."""
        shape = shape_of(resources)
        if shape not in self._slots:
            self._slots[shape] = [count_node_slots(shape, *free) for free in self._free]
            self._num_slots[shape] = sum(self._slots[shape])
        return self._num_slots[shape]

    def count_total_slots(self, resources: Resources) -> int:
        """How many processes fit into the empty nodes."""
        return sum(self._count_total(shape_of(resources)))

    def nodes_of(self, node_id: str | None) -> Sequence[int]:
        """Indexes of the nodes that capacity of `node_id` may belong to; None means all."""
        return range(len(self._free)) if node_id is None else self._indexes.get(node_id, ())

    def free_of(self, index: int) -> tuple[float, float]:
        """Free CPUs and GPUs of a node."""
        return self._free[index]

    def set_free(self, index: int, free: tuple[float, float]) -> None:
        """Replace the free CPUs and GPUs of a node."""
        previous = self._free[index]
        if free == previous:
            return
        self._free[index] = free
        self.changes.append(index)
        for shape, slots in self._slots.items():
            count = count_node_slots(shape, *free)
            self._num_slots[shape] += count - slots[index]
            slots[index] = count
        if self._by_free is not None:
            del self._by_free[bisect_left(self._by_free, _order(index, previous))]
            insort(self._by_free, _order(index, free))

    def reserve(self, resources: Resources, *, processes: int) -> None:
        """Take the capacity of processes, from the first node on; ignore those that do not fit."""
        self.count_slots(resources)
        for index, slots in enumerate(self._slots[shape_of(resources)]):
            if processes == 0:
                return
            reserved = min(processes, slots)
            processes -= reserved
            if reserved:
                self._add(index, resources, -reserved)

    def release(self, resources: Resources, *, processes: int, node_id: str | None) -> None:
        """Give the capacity of processes back.

        `node_id` is None for a run of several processes, or if its node is unknown: then the
        capacity goes to the first nodes where so much is in use.
        """
        shape = shape_of(resources)
        for index in self.nodes_of(node_id):
            if processes == 0:
                return
            (total_cpus, total_gpus), (cpus, gpus) = self._totals[index], self._free[index]
            released = min(processes, count_node_slots(shape, total_cpus - cpus, total_gpus - gpus))
            processes -= released
            if released:
                self._add(index, resources, released)

    def hold(self, resources: Resources) -> None:
        """Withhold free capacity for a run that does not fit yet.

        The nodes with the most free capacity are held first: they are the closest to fitting it.
        """
        if self._by_free is None:
            self._by_free = sorted(_order(*node) for node in enumerate(self._free))
        total_slots = self._count_total(shape_of(resources))
        remaining, held = resources.processes, []
        for *_, index in self._by_free:
            if remaining == 0:
                break
            if processes := min(remaining, total_slots[index]):
                remaining -= processes
                held.append((index, processes))
        for index, processes in held:
            cpus, gpus = self._free[index]
            free_cpus = max(0.0, cpus - processes * resources.num_cpus)
            free_gpus = max(0.0, gpus - processes * resources.num_gpus)
            self.set_free(index, (free_cpus, free_gpus))

    def _add(self, index: int, resources: Resources, processes: int) -> None:
        cpus, gpus = self._free[index]
        free_cpus = cpus + processes * resources.num_cpus
        free_gpus = gpus + processes * resources.num_gpus
        self.set_free(index, (free_cpus, free_gpus))

    def _count_total(self, shape: Shape) -> list[int]:
        if shape not in self._total_slots:
            self._total_slots[shape] = [count_node_slots(shape, *total) for total in self._totals]
        return self._total_slots[shape]


def _order(index: int, free: tuple[float, float]) -> tuple[float, float, int]:
    cpus, gpus = free
    return -gpus, -cpus, index
