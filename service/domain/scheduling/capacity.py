"""Counts the cluster's capacity, node by node; no I/O.

A slot is what one process of a run needs on one node.
"""

from dataclasses import replace

from configs.spec.compute import Resources
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.ports import Node


def count_slots(resources: Resources, nodes: tuple[Node, ...], *, total: bool) -> int:
    """How many processes fit: into the empty cluster (`total`), or into what is free now."""
    return sum(_count_node_slots(resources, node=node, total=total) for node in nodes)


def gpu_kinds(resources: Resources, nodes: tuple[Node, ...]) -> frozenset[str]:
    """The known kinds of GPUs that a process may get; empty for a process that needs no GPU."""
    if resources.num_gpus == 0:
        return frozenset()
    suitable = (node for node in nodes if _count_node_slots(resources, node=node, total=True))
    return frozenset(node.gpu_kind for node in suitable if node.gpu_kind)


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


def _count_node_slots(resources: Resources, *, node: Node, total: bool) -> int:
    cpus, gpus = (node.total_cpus, node.total_gpus) if total else (node.free_cpus, node.free_gpus)
    by_cpus = int(cpus // resources.num_cpus)
    return by_cpus if resources.num_gpus == 0 else min(by_cpus, int(gpus // resources.num_gpus))
