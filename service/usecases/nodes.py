"""The machines that there are, and those that could be added."""

from collections import Counter

from service.domain.ports import Node
from service.usecases.context import World


def cluster_nodes(world: World) -> tuple[Node, ...]:
    """Every node, then those that the cluster would add if a job asked for them."""
    nodes = world.cluster.nodes()
    there = Counter((node.total_cpus, node.total_gpus) for node in nodes)
    could_add: list[Node] = []
    for shape, most in Counter(world.rules.autoscales_to).items():
        missing = max(0, most - there[shape])
        could_add += [Node(*shape, *shape)] * missing
    return (*nodes, *could_add)
