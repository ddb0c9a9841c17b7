"""What stands against a spec, and what is known when it is looked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from configs.spec.dataset import ClassNames
from service.domain.ports import Node
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.runs import Run


@dataclass(frozen=True)
class Finding:
    """One thing that was found: an error keeps the run from being queued."""

    severity: Literal["error", "warning"]
    field: str
    code: str
    message: str


@dataclass(frozen=True)
class Facts:
    """What is known about the things that a spec names; none: not known or not there."""

    dataset: RegisteredDataset | None = None
    teacher: RegisteredTeacher | None = None
    """The detector that is named: a teacher, or the model of a job."""

    teacher_hint: str = ""
    """What to do if the teacher is not there, as a sentence."""

    teacher_run: Run | None = None
    teacher_run_classes: ClassNames | None = None
    nodes: tuple[Node, ...] | None = None


def error(field: str, code: str, message: str) -> Finding:
    """What keeps the run from being queued."""
    return Finding("error", field, code, message)


def warning(field: str, code: str, message: str) -> Finding:
    """What a person should know, and what keeps nothing from being queued."""
    return Finding("warning", field, code, message)


def abbreviate(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
