"""Counts the cluster's capacity, node by node; no I/O.

A slot is what one process of a run needs on one node.
"""

from dataclasses import replace

from configs.spec.compute import Resources
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.ports import Node

Shape = tuple[int, int]
"""CPUs and GPUs of a process."""


def shape_of(resources: Resources) -> Shape:
    return resources.num_cpus, resources.num_gpus


def count_node_slots(shape: Shape, cpus: float, gpus: float) -> int:
    """How many processes fit into CPUs and GPUs of one node."""
    num_cpus, num_gpus = shape
    by_cpus = int(cpus // num_cpus)
    return by_cpus if num_gpus == 0 else min(by_cpus, int(gpus // num_gpus))


def count_slots(resources: Resources, nodes: tuple[Node, ...], *, total: bool) -> int:
    """How many processes fit: into the empty cluster (`total`), or into what is free now."""
    shape = shape_of(resources)
    if total:
        return sum(count_node_slots(shape, node.total_cpus, node.total_gpus) for node in nodes)
    return sum(count_node_slots(shape, node.free_cpus, node.free_gpus) for node in nodes)


def gpu_kinds(resources: Resources, nodes: tuple[Node, ...]) -> frozenset[str]:
    """The known kinds of GPUs that a process may get; empty for a process that needs no GPU."""
    if resources.num_gpus == 0:
        return frozenset()
    shape = shape_of(resources)
    return frozenset(
        node.gpu_kind
        for node in nodes
        if node.gpu_kind and count_node_slots(shape, node.total_cpus, node.total_gpus)
    )


def exclude(nodes: tuple[Node, ...], node_ids: frozenset[str]) -> tuple[Node, ...]:
    """The nodes except those with these ids."""
    return tuple(node for node in nodes if node.id not in node_ids)


def exclude_gpus(nodes: tuple[Node, ...], node_ids: frozenset[str]) -> tuple[Node, ...]:
    """The nodes, those with these ids without any GPUs."""
    return tuple(
        replace(node, total_gpus=0.0, free_gpus=0.0) if node.id in node_ids else node
        for node in nodes
    )


def choose_num_processes(spec: JobSpec, *, slots: int, allows_fewer: bool) -> int | None:
    """How many processes to start in `slots`; None if the run has to wait.

    Fewer than the spec's must divide its micro-batches evenly; the largest such number is chosen.
    """
    resources = spec.resources
    if slots >= resources.processes:
        return resources.processes
    if not isinstance(spec, RunSpec) or resources.min_processes is None or not allows_fewer:
        return None
    micro_batches = resources.processes * spec.compute.grad_accumulation_steps
    candidates = range(resources.min_processes, slots + 1)
    return max((count for count in candidates if micro_batches % count == 0), default=None)


def describe_resources(resources: Resources) -> str:
    """As in `a node with 2 CPUs and 1 GPUs`."""
    per_process = f"{resources.num_cpus} CPUs and {resources.num_gpus} GPUs"
    if resources.processes == 1:
        return f"a node with {per_process}"
    return f"{resources.processes} processes with {per_process} each"


def describe_fewer_processes(resources: Resources, processes: int) -> str:
    """What an attempt with fewer processes than the spec's does to its batches, as a sentence."""
    factor = resources.processes / processes
    times = "twice" if factor == 2 else f"{factor:.3g} times"
    return (
        f"Resumes with {processes} of {resources.processes} processes "
        f"and {times} as many micro-batches."
    )
