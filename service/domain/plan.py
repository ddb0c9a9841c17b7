"""The dry run: what stands against a spec before anything is queued."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from configs.spec import (
    ClassNames,
    DatasetFiles,
    Detector,
    NamedDataset,
    NamedTeacher,
    Resources,
    RunSpec,
    RunTeacher,
    TeacherFiles,
    objections,
)
from service.domain.ports import Node
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.room import in_words, places
from service.domain.runs import Run
from service.domain.states import RunState


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
    way_to_get_teacher: str = ""
    """What to do if the teacher is not there, as a sentence."""

    teacher_run: Run | None = None
    teacher_run_classes: ClassNames | None = None
    nodes: tuple[Node, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """A spec and what was found."""

    spec: RunSpec
    findings: tuple[Finding, ...]
    waits_for: str | None
    """The run whose checkpoint is the teacher, if it is not trained yet."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps the run from being queued."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def make_plan(spec: RunSpec, facts: Facts) -> Plan:
    """Everything that speaks against running `spec`."""
    findings = [
        *_dataset_findings(spec, facts),
        *_teacher_findings(spec, facts),
        *_resource_findings(spec.resources, facts.nodes),
    ]
    run = facts.teacher_run
    waits = run.id if run is not None and run.state is not RunState.SUCCEEDED else None
    return Plan(spec, tuple(findings), waits)


def _dataset_findings(spec: RunSpec, facts: Facts) -> Iterator[Finding]:
    reference = spec.data.dataset
    if isinstance(reference, DatasetFiles):
        yield _error(
            "data.dataset.root",
            "not_by_path",
            "Register the dataset (POST /v1/datasets) and name it.",
        )
    elif isinstance(reference, NamedDataset) and facts.dataset is None:
        yield _error(
            "data.dataset.name",
            "dataset_not_found",
            f"No dataset is called {reference.name!r}; `tandem data list` shows those there are.",
        )


def _teacher_findings(spec: RunSpec, facts: Facts) -> Iterator[Finding]:
    reference = spec.teacher
    if isinstance(reference, TeacherFiles):
        yield _error(
            "teacher.checkpoint",
            "not_by_path",
            "Register the teacher (POST /v1/teachers) and name it.",
        )
    elif isinstance(reference, NamedTeacher):
        yield from _named_teacher_findings(reference, spec, facts)
    elif isinstance(reference, RunTeacher):
        yield from _teacher_run_findings(reference, spec, facts)


def _named_teacher_findings(
    reference: NamedTeacher, spec: RunSpec, facts: Facts
) -> Iterator[Finding]:
    if facts.teacher is None:
        yield _error(
            "teacher.name",
            "teacher_not_found",
            f"No teacher is called {reference.name!r}. {facts.way_to_get_teacher}".rstrip(),
        )
        return
    yield from _class_findings("teacher.name", facts.teacher.classes, spec, facts)
    yield from _pair_findings("teacher.name", facts.teacher.detector, spec)


def _teacher_run_findings(reference: RunTeacher, spec: RunSpec, facts: Facts) -> Iterator[Finding]:
    run = facts.teacher_run
    if run is None:
        yield _error("teacher.run", "run_not_found", f"There is no run {reference.run}.")
    elif run.state in (RunState.FAILED, RunState.CANCELLED):
        yield _error(
            "teacher.run",
            "teacher_run_failed",
            f"Run {run.id} is {run.state}; it has no teacher to give.",
        )
    else:
        if facts.teacher_run_classes is not None:
            yield from _class_findings("teacher.run", facts.teacher_run_classes, spec, facts)
        yield from _pair_findings("teacher.run", run.spec.student, spec)


def _pair_findings(field: str, teacher: Detector, spec: RunSpec) -> Iterator[Finding]:
    """Whether the two can be compared position by position, and are likely to profit from it."""
    for objection in objections(spec.student, teacher, spec.distillation):
        yield Finding(objection.severity, field, objection.code, objection.message)


def _class_findings(
    field: str, classes: Sequence[str], spec: RunSpec, facts: Facts
) -> Iterator[Finding]:
    if facts.dataset is None:
        return
    ours = facts.dataset.manifest.classes
    if spec.teacher_classes == "by_name":
        if unknown := [name for name in ours if name not in classes]:
            yield _error(
                field,
                "teacher_classes_missing",
                f"The teacher does not know {len(unknown)} of the dataset's {len(ours)} classes "
                f"({_some(unknown)}), so they cannot be matched by name.",
            )
    elif tuple(classes) != ours:
        hint = ", or match them with teacher_classes: by_name" if set(ours) <= set(classes) else ""
        yield _error(
            field,
            "teacher_classes_differ",
            f"The teacher knows {len(classes)} classes ({_some(classes)}) and the dataset "
            f"{facts.dataset.name!r} has {len(ours)} ({_some(ours)}); "
            f"both must be the same, in the same order{hint}.",
        )


def _resource_findings(asked: Resources, nodes: tuple[Node, ...] | None) -> Iterator[Finding]:
    if nodes is None:
        yield Finding(
            "warning",
            "resources",
            "cluster_unreachable",
            "Ray does not answer, so resources were not checked.",
        )
        return
    room = places(asked, nodes, total=True)
    if room >= asked.processes:
        return
    has = (
        ", ".join(f"{node.total_cpus:g} CPUs and {node.total_gpus:g} GPUs" for node in nodes)
        or "no node"
    )
    short = "" if asked.processes == 1 else f" has room for {room}: it"
    yield _error(
        _field_too_large(asked, nodes, room=room),
        "resources_infeasible",
        f"Asked is room for {in_words(asked)}, but the cluster{short} has {has}.",
    )


def _field_too_large(asked: Resources, nodes: tuple[Node, ...], *, room: int) -> str:
    if room > 0:
        return "resources.processes"
    most_gpus = max((node.total_gpus for node in nodes), default=0)
    return "resources.num_gpus" if asked.num_gpus > most_gpus else "resources.num_cpus"


def _error(field: str, code: str, message: str) -> Finding:
    return Finding("error", field, code, message)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
