"""The machines that there are, and those that could be added."""

from collections import Counter

from service.domain.ports import Node
from service.usecases.context import Context


def list_nodes(ctx: Context) -> tuple[Node, ...]:
    """Every node, then those that the cluster would add if a job asked for them."""
    nodes = ctx.cluster.nodes()
    there = Counter((node.total_cpus, node.total_gpus) for node in nodes)
    could_add: list[Node] = []
    for shape, most in Counter(ctx.policy.autoscales_to).items():
        missing = max(0, most - there[shape])
        could_add += [Node(*shape, *shape)] * missing
    return (*nodes, *could_add)
