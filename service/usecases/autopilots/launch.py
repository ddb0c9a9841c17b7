"""Launches autopilots, after checking what can be checked before anything is spent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from configs.derived_specs import baseline_spec
from configs.problems import problems_from_validation
from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.autopilot import AutopilotBudget, AutopilotSpec
from configs.spec.jobs import ExportFormat
from configs.spec.references import NamedDataset, NamedTeacher
from configs.spec.run import RunSpec
from configs.spec.students import choose_teacher_backbone, name_backbone
from configs.spec.sweep import Values
from service.domain.access import Caller
from service.domain.autopilot.autopilots import Autopilot, AutopilotPhase
from service.domain.autopilot.candidates import (
    CandidateRefused,
    list_candidates,
    list_trained_teachers,
)
from service.domain.errors.base import FieldError
from service.domain.errors.requests import SpecRefused
from service.domain.ids import new_autopilot_id
from service.domain.planning.findings import Finding, error, raise_for_errors
from service.domain.registry import RegisteredTeacher
from service.domain.repositories.unit_of_work import UnitOfWork
from service.usecases.access import resolve_project
from service.usecases.context import Context
from service.usecases.idempotency import IdempotentLaunch
from service.usecases.projects import check_priority
from service.usecases.runs.plan import LaunchRun, parse_requested_spec, plan_spec

AUTO: Literal["auto"] = "auto"
"""All registered teachers with the classes of the dataset, or else a larger one that is trained."""


@dataclass(frozen=True)
class LaunchAutopilot:
    """Request to launch an autopilot."""

    base: LaunchRun
    """The run whose dataset, schedule and resources all runs have."""

    budget: AutopilotBudget
    teachers: tuple[str, ...] | Literal["auto"] | None = None
    """Names of registered teachers. None for that of the base, or `auto` if it has none."""

    trained_teachers: tuple[str, ...] = ()
    """Names of backbones to train as teachers."""

    students: tuple[str, ...] = ()
    """Names of backbones. Empty for that of the base."""

    methods: tuple[str, ...] = ()
    """Names of distillation methods. Empty for all that fit."""

    schedules: tuple[Values, ...] = ()
    """Fields of other schedules to try for the student alone."""

    max_latency_ms: float | None = None
    formats: tuple[ExportFormat, ...] = ("checkpoint", "onnx", "mlflow")
    name: str | None = None
    project: str | None = None
    """`None` selects the caller's project, or else the default project."""

    priority: int = 0
    is_paused: bool = False
    """Whether it waits for `resume` once its plan is known."""

    digest: str = ""
    """Digest of the original request, to which an idempotency key is bound."""


def launch_autopilot(
    request: LaunchAutopilot, *, key: str | None, caller: Caller, ctx: Context
) -> tuple[Autopilot, bool]:
    """Launch an autopilot, and return whether it is new: a repeated idempotency key returns the
    autopilot that it launched.

    Raises `SpecRefused` for what cannot work, and `IdempotencyKeyReused` for another request's key.
    """
    project = resolve_project(request.project, caller=caller) or DEFAULT_PROJECT
    launch = IdempotentLaunch(
        key,
        digest=request.digest,
        caller=caller,
        get=lambda uow, autopilot_id: uow.autopilots.get(autopilot_id),
    )
    if earlier := launch.find_earlier(ctx=ctx):
        return earlier, False
    spec, notes = _check_request(request, project=project, caller=caller, ctx=ctx)
    now = ctx.clock.now()
    autopilot = Autopilot(
        id=new_autopilot_id(),
        name=request.name or f"autopilot of {request.base.preset or 'a run'}",
        preset=request.base.preset,
        spec=spec,
        phase=AutopilotPhase.PROBING,
        created_at=now,
        updated_at=now,
        created_by=caller.name,
        project=project,
        priority=request.priority,
        desired="pause" if request.is_paused else "run",
        notes=notes,
    )
    with ctx.store.transaction() as uow:
        uow.autopilots.lock_inserts()
        if earlier := launch.lock_and_find_earlier(uow):
            return earlier, False
        uow.autopilots.add(autopilot)
        launch.bind(uow, autopilot.id)
    return autopilot, True


def _check_request(
    request: LaunchAutopilot, *, project: str, caller: Caller, ctx: Context
) -> tuple[AutopilotSpec, tuple[str, ...]]:
    """The spec, and what its runs are warned of."""
    base = parse_requested_spec(request.base)
    if not isinstance(base, RunSpec):
        raise SpecRefused([FieldError("base", "invalid", "An autopilot is about a training run.")])
    raise_for_errors(_budget_findings(request.budget, base, ctx=ctx))
    # The student alone must be able to train; its findings are those of the dataset.
    findings = [*plan_spec(baseline_spec(base), caller=caller, ctx=ctx).findings]
    raise_for_errors(findings)
    with ctx.store.snapshot() as uow:
        check_priority(uow, request.priority, project=project, caller=caller)
        teachers = _find_teachers(uow, request, base)
    spec = _parse_spec(request, base, [teacher.name for teacher in teachers])
    try:
        candidates = list_candidates(spec, {teacher.name: teacher.detector for teacher in teachers})
    except CandidateRefused as problem:
        raise SpecRefused([FieldError(problem.field, "invalid", str(problem))]) from problem
    for candidate in candidates:
        probed = candidate.distilled if teachers else candidate.baseline
        findings += plan_spec(probed, caller=caller, ctx=ctx).findings
    for trained in list_trained_teachers(spec):
        findings += plan_spec(trained.training, caller=caller, ctx=ctx).findings
    raise_for_errors(findings)
    return spec, tuple(dict.fromkeys(finding.message for finding in findings))


def _budget_findings(budget: AutopilotBudget, base: RunSpec, *, ctx: Context) -> Iterator[Finding]:
    if budget.gpu_hours is not None and base.resources.num_gpus == 0:
        yield error(
            "budget.gpu_hours",
            "no_gpu",
            "resources.num_gpus is 0, so nothing would ever be spent: give hours instead, or ask "
            "for GPUs.",
        )
    prices = ctx.policy.prices
    has_price = prices.gpu_hour if base.resources.num_gpus else prices.cpu_hour
    if budget.price is not None and not has_price:
        device = "GPU" if base.resources.num_gpus else "CPU"
        yield error(
            "budget.price",
            "no_price",
            f"The service does not know the price of a {device} hour: give hours instead, or set "
            f"TANDEM_{device}_HOUR_PRICE.",
        )


def _find_teachers(
    uow: UnitOfWork, request: LaunchAutopilot, base: RunSpec
) -> Sequence[RegisteredTeacher]:
    """The teachers that the request names or leaves open."""
    registered = {teacher.name: teacher for teacher in uow.registry.teachers()}
    names = request.teachers
    if names is None and request.trained_teachers:
        return []
    if names is None:
        names = (base.teacher.name,) if isinstance(base.teacher, NamedTeacher) else AUTO
    if names != AUTO:
        missing = [name for name in names if name not in registered]
        if missing:
            raise SpecRefused(
                [
                    FieldError(
                        "teachers",
                        "teacher_not_found",
                        f"No teacher is called {name!r}. `tandem teachers list` shows them, "
                        f"`tandem teachers fetch {name}` gets a known one.",
                    )
                    for name in missing
                ]
            )
        return [registered[name] for name in names]
    classes = _dataset_classes(uow, base)
    return [teacher for teacher in registered.values() if teacher.classes == classes]


def _dataset_classes(uow: UnitOfWork, base: RunSpec) -> tuple[str, ...]:
    reference = base.data.dataset
    dataset = uow.registry.dataset(reference.name) if isinstance(reference, NamedDataset) else None
    return () if dataset is None else dataset.manifest.classes


def _parse_spec(request: LaunchAutopilot, base: RunSpec, teachers: Sequence[str]) -> AutopilotSpec:
    students = request.students or (name_backbone(base.student.backbone),)
    trained = request.trained_teachers
    if not (teachers or trained):
        trained = (choose_teacher_backbone(students),)
    document = {
        "base": base,
        "teachers": teachers,
        "trained_teachers": trained,
        "students": students,
        "methods": request.methods,
        "schedules": request.schedules,
        "max_latency_ms": request.max_latency_ms,
        "budget": request.budget,
        "formats": request.formats,
    }
    try:
        return AutopilotSpec.model_validate(document)
    except ValidationError as invalid:
        problems = problems_from_validation(invalid, document, AutopilotSpec)
        raise SpecRefused([_field_error(p.field, p.message) for p in problems]) from invalid


def _field_error(name: str, message: str) -> FieldError:
    """Messages of the validator over several fields start with the invalid one."""
    field, _, problem = message.partition(": ")
    if not name and field in AutopilotSpec.model_fields:
        return FieldError(field, "invalid", problem)
    return FieldError(name, "invalid", message)
