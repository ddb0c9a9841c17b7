"""The students and methods that an autopilot may choose from, and their request after probing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.derived_specs import baseline_spec, trial_spec
from configs.protocol.probe import Costs, max_pack_size
from configs.spec.autopilot import AutopilotSpec
from configs.spec.detector import Detector
from configs.spec.run import NamedTeacher, RunSpec
from configs.spec.students import student_values
from configs.spec.sweep import Values
from service.domain.autopilot.request import (
    AutopilotRequest,
    MethodOption,
    StudentOption,
    TeacherOption,
)
from service.domain.autopilot.specs import list_method_options

_MAX_PACK_SIZE = 8


class CandidateRefused(ValueError):
    """A field of a spec names something that cannot be tried."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Candidate:
    """A student that may be trained."""

    name: str
    values: Values
    methods: tuple[MethodOption, ...]
    """Those that fit it and every teacher."""

    distilled: RunSpec
    """A run of it with the first teacher and the first method, which a probe can time."""


def list_candidates(
    spec: AutopilotSpec, detectors: Mapping[str, Detector]
) -> tuple[Candidate, ...]:
    """All students of a spec; `detectors` are those of its teachers, by name.

    Raises `CandidateRefused` for an unknown student or method, and for a student that no method
    distills.
    """
    return tuple(_make_candidate(spec, name, detectors) for name in spec.students)


def common_methods(candidates: Sequence[Candidate]) -> tuple[MethodOption, ...]:
    """The methods that fit all students, in the order in which a small budget takes them."""
    names = [{method.name for method in candidate.methods} for candidate in candidates]
    return tuple(
        method for method in candidates[0].methods if all(method.name in fits for fits in names)
    )


@dataclass(frozen=True)
class ProbedStudent:
    """A student with its costs."""

    candidate: Candidate
    costs: Costs
    start_s: float
    """From the submission of the probe to its start."""


def make_request(
    spec: AutopilotSpec, students: Sequence[ProbedStudent], *, budget_s: float, val_images: int
) -> AutopilotRequest:
    """What the decisions depend on. Measuring any teacher costs what the first one does."""
    base = spec.base
    slowest = max(students, key=lambda student: student.costs.evaluation_s)
    start_s = max(student.start_s for student in students)
    batches = val_images / base.data.batch_size
    measured_s = start_s + slowest.costs.evaluation_s + batches * slowest.costs.teacher_s
    is_packable = base.resources.processes == 1
    return AutopilotRequest(
        teachers=tuple(TeacherOption(name=name, cost_s=measured_s) for name in spec.teachers),
        students=tuple(
            StudentOption(
                name=student.candidate.name,
                values=student.candidate.values,
                costs=student.costs,
            )
            for student in students
        ),
        methods=common_methods([student.candidate for student in students]),
        learning_rate=base.schedule.optimizer.lr,
        epochs=base.schedule.epochs,
        every_epochs=base.evaluation.every_epochs,
        budget_s=budget_s,
        start_s=start_s,
        pack_size=min(_MAX_PACK_SIZE, *(max_pack_size(student.costs) for student in students))
        if is_packable
        else 1,
        first_seed=base.seed,
    )


def _make_candidate(spec: AutopilotSpec, name: str, detectors: Mapping[str, Detector]) -> Candidate:
    try:
        values = student_values(name, spec.base)
    except ValueError as unknown:
        raise CandidateRefused("students", str(unknown)) from unknown
    base = trial_spec(baseline_spec(spec.base), values, seed=spec.base.seed)
    try:
        choices = [
            list_method_options(base, teacher=teacher, detector=detector, names=spec.methods)
            for teacher, detector in detectors.items()
        ]
    except ValueError as unknown:
        raise CandidateRefused("methods", str(unknown)) from unknown
    fits = [{option.name for option in choice.options} for choice in choices]
    methods = tuple(
        option for option in choices[0].options if all(option.name in names for names in fits)
    )
    if not methods:
        reasons = sorted({reason for choice in choices for reason in choice.refused.values()})
        why = f"no method distills {name} from {', '.join(detectors)}: {reasons[0]}"
        raise CandidateRefused("methods" if spec.methods else "students", why)
    taught = base.model_copy(update={"teacher": NamedTeacher(name=next(iter(detectors)))})
    return Candidate(
        name=name,
        values=values,
        methods=methods,
        distilled=trial_spec(taught, methods[0].values, seed=base.seed),
    )
