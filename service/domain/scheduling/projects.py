"""Projects, which share the cluster by weight and have limits."""

from dataclasses import dataclass

from configs.protocol.names import DEFAULT_PROJECT
from service.domain.errors.base import FieldError
from service.domain.errors.requests import Forbidden


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

    max_priority: int = 0
    """The largest priority that its runners may give; admins may give any. A run of a larger
    priority goes before, and preempts, the runs of all projects, so 0 is the default."""


class PriorityForbidden(Forbidden):
    """The priority is larger than runners may give in this project."""

    code = "priority_forbidden"

    def __init__(self, priority: int, *, largest: int, project: str) -> None:
        why = f"The largest priority in project {project!r} is {largest}, got {priority}."
        super().__init__(
            f"{why} A larger one would preempt the runs of other projects. An admin may raise it: "
            f"`tandem projects set {project} --max-priority {priority}`."
        )
        self.field_errors = (FieldError("priority", self.code, why),)
