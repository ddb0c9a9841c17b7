"""Findings about a spec, and the facts on which they rest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from configs.protocol.image_hashes import SharedImage
from configs.spec.dataset import ClassNames
from service.domain.errors.base import FieldError
from service.domain.errors.requests import SpecRefused
from service.domain.ports import Node, WeightsStatus
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.runs import Run


@dataclass(frozen=True)
class Finding:
    """A problem of a spec; an error keeps the run from being queued, a warning does not."""

    severity: Literal["error", "warning"]
    field: str
    code: str
    message: str


@dataclass(frozen=True)
class Facts:
    """What is known about the things that a spec names; None if one is missing or unknown."""

    dataset: RegisteredDataset | None = None
    dataset_hint: str = ""
    """How to get the dataset if it is not registered, as a sentence."""

    unlabelled: RegisteredDataset | None = None
    """The dataset of images without labels, which may have labels that are ignored."""

    unlabelled_hint: str = ""
    """How to get that one."""

    shared_images: tuple[SharedImage, ...] = ()
    """Images of `unlabelled` that `dataset` validates on, as far as both have stored hashes."""

    teacher: RegisteredTeacher | None = None
    """The registered detector that the spec names: its teacher, or the model of a job."""

    teacher_hint: str = ""
    """How to get the teacher if it is not registered, as a sentence."""

    teacher_run: Run | None = None
    """The run that the spec names as its teacher or model."""

    teacher_run_classes: ClassNames | None = None
    weights: WeightsStatus | None = None
    """The weights that the student starts from. None if it starts from random ones, or if the
    service does not see the files of the workers."""

    nodes: tuple[Node, ...] | None = None
    """None if the cluster does not answer."""


def error(field: str, code: str, message: str) -> Finding:
    return Finding("error", field, code, message)


def warning(field: str, code: str, message: str) -> Finding:
    return Finding("warning", field, code, message)


def list_errors(findings: Iterable[Finding]) -> list[FieldError]:
    """Those findings that keep the run or the sweep from being queued."""
    return [
        FieldError(finding.field, finding.code, finding.message)
        for finding in findings
        if finding.severity == "error"
    ]


def raise_for_errors(findings: Iterable[Finding]) -> None:
    """Raise `SpecRefused` if a finding is an error."""
    if errors := list_errors(findings):
        raise SpecRefused(errors)


def abbreviate(names: Sequence[str]) -> str:
    """The first names of many, as in `a, b, c, ...`."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
