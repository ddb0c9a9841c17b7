"""Nodes of the cluster, and nodes that autoscaling could add."""

from collections import Counter

from service.domain.errors import ClusterUnreachable
from service.domain.ports import Node
from service.usecases.context import Context


def list_nodes(ctx: Context) -> tuple[Node, ...]:
    """All nodes, followed by those that the autoscaler would add for a waiting job."""
    nodes = ctx.cluster.nodes()
    existing = Counter((node.total_cpus, node.total_gpus) for node in nodes)
    addable: list[Node] = []
    for shape, limit in Counter(ctx.policy.autoscales_to).items():
        missing = max(0, limit - existing[shape])
        addable += [Node(*shape, *shape)] * missing
    return (*nodes, *addable)


def list_nodes_or_none(ctx: Context) -> tuple[Node, ...] | None:
    """The same nodes; `None` if the cluster does not answer."""
    try:
        return list_nodes(ctx)
    except ClusterUnreachable:
        return None
