"""Where the processes of a run have room, and how many of them start: pure."""

from collections.abc import Iterator
from dataclasses import replace

from configs.spec.compute import Resources
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.ports import Node


def count_slots(asked: Resources, nodes: tuple[Node, ...], *, total: bool) -> int:
    """How many processes the cluster could ever (`total`) or can now take, node by node."""
    return sum(_places(asked, node=node, total=total) for node in nodes)


def gpu_kinds(asked: Resources, nodes: tuple[Node, ...]) -> frozenset[str]:
    """The known kinds of GPUs that a process may get; none of a process that asks for no GPU."""
    if asked.num_gpus == 0:
        return frozenset()
    suitable = (node for node in nodes if _places(asked, node=node, total=True))
    return frozenset(node.gpu_kind for node in suitable if node.gpu_kind)


def reserve(nodes: tuple[Node, ...], asked: Resources, *, processes: int) -> tuple[Node, ...]:
    """The nodes with their first places taken by as many of `processes` as there is room for."""
    return tuple(_fill(nodes, asked, processes))


def release(
    nodes: tuple[Node, ...], asked: Resources, *, processes: int, node_id: str | None
) -> tuple[Node, ...]:
    """The nodes when a run's processes have left them; where those are is not always known."""
    return tuple(_empty(nodes, asked, processes, node_id))


def exclude(nodes: tuple[Node, ...], avoided: frozenset[str]) -> tuple[Node, ...]:
    """The nodes but for those that are avoided."""
    return tuple(node for node in nodes if node.id not in avoided)


def exclude_gpus(nodes: tuple[Node, ...], avoided: frozenset[str]) -> tuple[Node, ...]:
    """The nodes, some of which have no GPUs any more that could be used."""
    return tuple(
        replace(node, total_gpus=0.0, free_gpus=0.0) if node.id in avoided else node
        for node in nodes
    )


def hold(nodes: tuple[Node, ...], asked: Resources) -> tuple[Node, ...]:
    """The nodes with what is free on some of them kept for a run that does not fit yet.

    Those with the most free are kept: what ends there brings the run nearest to its start.
    """
    left, kept = asked.processes, {}
    order = sorted(range(len(nodes)), key=lambda at: _freedom(nodes[at]), reverse=True)
    for at in order:
        here = min(left, _places(asked, node=nodes[at], total=True))
        left -= here
        kept[at] = here
    return tuple(_kept(node, asked, kept[at]) for at, node in enumerate(nodes))


def choose_num_processes(spec: JobSpec, *, slots: int, allows_fewer: bool) -> int | None:
    """How many processes to start where there is room for `room`; none: wait.

    Fewer than the spec's are the most that its batches can be shared by.
    """
    asked = spec.resources
    if slots >= asked.processes:
        return asked.processes
    if not isinstance(spec, RunSpec) or asked.min_processes is None or not allows_fewer:
        return None
    pieces = asked.processes * spec.compute.grad_accumulation_steps
    possible = range(asked.min_processes, slots + 1)
    return max((count for count in possible if pieces % count == 0), default=None)


def describe_resources(asked: Resources) -> str:
    """What has to find room."""
    each = f"{asked.num_cpus} CPUs and {asked.num_gpus} GPUs"
    if asked.processes == 1:
        return f"a node with {each}"
    return f"{asked.processes} processes with {each} each"


def describe_fewer_processes(asked: Resources, processes: int) -> str:
    """What becomes of the batches when an attempt has fewer processes than were asked for."""
    wanted = asked.processes
    times = wanted / processes
    many = "twice" if times == 2 else f"{times:.3g} times"
    return (
        f"Goes on with {processes} of {wanted} processes; "
        f"batches are cut into {many} as many parts."
    )


def _places(asked: Resources, *, node: Node, total: bool) -> int:
    cpus, gpus = (node.total_cpus, node.total_gpus) if total else (node.free_cpus, node.free_gpus)
    by_cpus = int(cpus // asked.num_cpus)
    return by_cpus if asked.num_gpus == 0 else min(by_cpus, int(gpus // asked.num_gpus))


def _fill(nodes: tuple[Node, ...], asked: Resources, processes: int) -> Iterator[Node]:
    for node in nodes:
        taken = min(processes, _places(asked, node=node, total=False))
        processes -= taken
        yield replace(
            node,
            free_cpus=node.free_cpus - taken * asked.num_cpus,
            free_gpus=node.free_gpus - taken * asked.num_gpus,
        )


def _empty(
    nodes: tuple[Node, ...], asked: Resources, processes: int, node_id: str | None
) -> Iterator[Node]:
    for node in nodes:
        left = 0
        if node_id is None or node.id == node_id:
            used = replace(
                node,
                free_cpus=node.total_cpus - node.free_cpus,
                free_gpus=node.total_gpus - node.free_gpus,
            )
            left = min(processes, _places(asked, node=used, total=False))
        processes -= left
        yield replace(
            node,
            free_cpus=node.free_cpus + left * asked.num_cpus,
            free_gpus=node.free_gpus + left * asked.num_gpus,
        )


def _freedom(node: Node) -> tuple[float, float]:
    return (node.free_gpus, node.free_cpus)


def _kept(node: Node, asked: Resources, processes: int) -> Node:
    return replace(
        node,
        free_cpus=max(0.0, node.free_cpus - processes * asked.num_cpus),
        free_gpus=max(0.0, node.free_gpus - processes * asked.num_gpus),
    )
