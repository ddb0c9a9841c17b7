"""Projects: whose runs share the cluster, and how."""

from dataclasses import dataclass

from configs.protocol.names import DEFAULT_PROJECT


@dataclass(frozen=True)
class Project:
    """How much of the cluster a project's runs may take."""

    name: str = DEFAULT_PROJECT
    weight: float = 1.0
    """Its share of what is scarce, beside the weights of others."""

    max_runs: int | None = None
    """Runs at a time; none: as many as there is room for."""

    max_gpus: int | None = None
    """GPUs at a time; none: as many as there are."""
