"""Nodes of the cluster, and nodes that autoscaling could add."""

from collections import Counter

from service.domain.errors.systems import ClusterUnreachable
from service.domain.ports import Node
from service.usecases.context import Context


def list_nodes(ctx: Context) -> tuple[Node, ...]:
    """All nodes, followed by those that the autoscaler would add for a waiting job."""
    return _with_addable_nodes(ctx.cluster.nodes(), ctx=ctx)


def list_nodes_or_none(ctx: Context) -> tuple[Node, ...] | None:
    """The same nodes as they were a moment ago; `None` if the cluster does not answer."""
    try:
        return _with_addable_nodes(ctx.cluster.recent_nodes(), ctx=ctx)
    except ClusterUnreachable:
        return None


def _with_addable_nodes(nodes: tuple[Node, ...], *, ctx: Context) -> tuple[Node, ...]:
    existing = Counter((node.total_cpus, node.total_gpus) for node in nodes)
    addable: list[Node] = []
    for shape, limit in Counter(ctx.policy.autoscales_to).items():
        missing = max(0, limit - existing[shape])
        addable += [Node(*shape, *shape)] * missing
    return (*nodes, *addable)
