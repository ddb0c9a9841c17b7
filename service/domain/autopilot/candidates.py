"""The students and methods that an autopilot may choose from, and their request after probing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.catalog import SpecError
from configs.derived_specs import baseline_spec, trial_spec
from configs.protocol.probe import Costs, max_pack_size
from configs.spec.autopilot import AutopilotSpec
from configs.spec.detector import Detector
from configs.spec.references import NamedTeacher
from configs.spec.run import RunSpec
from configs.spec.students import student_values
from configs.spec.sweep import Values
from service.domain.autopilot.request import (
    AutopilotRequest,
    MethodOption,
    StudentOption,
    TeacherOption,
)
from service.domain.autopilot.specs import list_method_options
from service.domain.estimates import pack_duration_s

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

    baseline: RunSpec
    """A run of it without a teacher."""

    distilled: RunSpec
    """A run of it with the first teacher and the first method."""


@dataclass(frozen=True)
class TeacherCandidate:
    """A backbone that is trained to be a teacher."""

    name: str
    values: Values
    training: RunSpec
    """The run that trains it."""


def list_trained_teachers(spec: AutopilotSpec) -> tuple[TeacherCandidate, ...]:
    """The teachers that a spec trains. Raises `CandidateRefused` for an unknown backbone, and for
    that of the base, which is no larger than a student."""
    teachers = []
    for name in spec.trained_teachers:
        values = _find_values("trained_teachers", name, spec)
        if not values:
            raise CandidateRefused("trained_teachers", f"{name} is the backbone of the base")
        training = trial_spec(baseline_spec(spec.base), values, seed=spec.base.seed)
        teachers.append(TeacherCandidate(name, values, training))
    return tuple(teachers)


def list_candidates(
    spec: AutopilotSpec, detectors: Mapping[str, Detector]
) -> tuple[Candidate, ...]:
    """All students of a spec; `detectors` are those of its registered teachers, by name.

    Raises `CandidateRefused` for an unknown student or method, for a student that no method
    distills, and for a schedule that does not fit.
    """
    trained = {
        teacher.name: teacher.training.student.architecture
        for teacher in list_trained_teachers(spec)
    }
    all_detectors = {**detectors, **trained}
    return tuple(_make_candidate(spec, name, all_detectors) for name in spec.students)


def common_methods(candidates: Sequence[Candidate]) -> tuple[MethodOption, ...]:
    """The methods that fit all students, in the order in which a small budget takes them."""
    if not candidates:
        return ()
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


@dataclass(frozen=True)
class ProbedTeacher:
    """A teacher that is trained first, with the costs of that."""

    candidate: TeacherCandidate
    costs: Costs


def make_request(
    spec: AutopilotSpec,
    students: Sequence[ProbedStudent],
    teachers: Sequence[ProbedTeacher],
    *,
    budget_s: float,
    val_images: int,
) -> AutopilotRequest:
    """What the decisions depend on. Measuring any registered teacher costs what the first does."""
    base = spec.base
    start_s = max(student.start_s for student in students)
    batches = val_images / base.data.batch_size
    # An evaluation is a forward pass of each image, and loading it.
    trained_s = max((teacher.costs.evaluation_s / batches for teacher in teachers), default=0.0)
    options = tuple(
        StudentOption(
            name=student.candidate.name,
            values=student.candidate.values,
            costs=student.costs.model_copy(
                update={"teacher_s": max(student.costs.teacher_s, trained_s)}
            ),
        )
        for student in students
    )
    slowest = max((option.costs for option in options), key=lambda costs: costs.evaluation_s)
    measured_s = start_s + slowest.evaluation_s + batches * slowest.teacher_s
    is_packable = base.resources.processes == 1
    return AutopilotRequest(
        teachers=(
            *(TeacherOption(name=name, cost_s=measured_s) for name in spec.teachers),
            *(_make_teacher_option(base, teacher, start_s=start_s) for teacher in teachers),
        ),
        students=options,
        methods=common_methods([student.candidate for student in students]),
        learning_rate=base.schedule.optimizer.lr,
        schedules=spec.schedules,
        epochs=base.schedule.epochs,
        every_epochs=base.evaluation.every_epochs,
        budget_s=budget_s,
        start_s=start_s,
        pack_size=min(_MAX_PACK_SIZE, *(max_pack_size(student.costs) for student in students))
        if is_packable
        else 1,
        first_seed=base.seed,
    )


def _make_teacher_option(base: RunSpec, teacher: ProbedTeacher, *, start_s: float) -> TeacherOption:
    training_s = pack_duration_s(
        teacher.costs,
        students=1,
        epochs=base.schedule.epochs,
        every_epochs=base.evaluation.every_epochs,
        has_teacher=False,
    )
    return TeacherOption(
        name=teacher.candidate.name,
        cost_s=start_s + training_s,
        values=teacher.candidate.values,
    )


def _make_candidate(spec: AutopilotSpec, name: str, detectors: Mapping[str, Detector]) -> Candidate:
    values = _find_values("students", name, spec)
    base = trial_spec(baseline_spec(spec.base), values, seed=spec.base.seed)
    for schedule in spec.schedules:
        try:
            trial_spec(base, schedule, seed=base.seed)
        except SpecError as problems:
            raise CandidateRefused("schedules", str(problems)) from problems
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
        baseline=base,
        distilled=trial_spec(taught, methods[0].values, seed=base.seed),
    )


def _find_values(field: str, name: str, spec: AutopilotSpec) -> Values:
    """As `student_values`; raises `CandidateRefused` for the field."""
    try:
        return student_values(name, spec.base)
    except ValueError as unknown:
        raise CandidateRefused(field, str(unknown)) from unknown
