"""Projects, which share the cluster by weight and have limits."""

from dataclasses import dataclass

from configs.protocol.names import DEFAULT_PROJECT


@dataclass(frozen=True)
class Project:
    """How much of the cluster a project's runs may take."""

    name: str = DEFAULT_PROJECT
    weight: float = 1.0
    """Its share of a full cluster, relative to the weights of other projects."""

    max_runs: int | None = None
    """Runs at a time; None if only the cluster limits them."""

    max_gpus: int | None = None
    """GPUs at a time; None if only the cluster limits them."""
