"""Dry run of a launch: findings, resources, baseline and seed noise of a spec."""

from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from configs.catalog import (
    SpecError,
    UnknownPreset,
    parse_job,
    parse_spec,
    spec_from_preset,
)
from configs.derived_specs import is_distilled
from configs.metric_keys import Metric
from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.base import Task, TeacherControl
from configs.spec.detector import Detector
from configs.spec.jobs import JobSpec, get_dataset_name
from configs.spec.references import Dataset, NamedDataset, NamedTeacher, RunTeacher
from configs.spec.run import RunSpec
from configs.teacher_catalog import how_to_get_teacher, known_teachers
from service.domain.access import Caller
from service.domain.baselines import PlannedBaseline, needs_baseline
from service.domain.errors.base import FieldError
from service.domain.errors.requests import PresetNotFound, RunNotFound, SpecRefused
from service.domain.estimates import RunEstimate, estimate_run, find_reference
from service.domain.planning.dataset_findings import dataset_findings
from service.domain.planning.findings import Facts
from service.domain.planning.plan import Plan, make_plan
from service.domain.planning.references import references_of
from service.domain.registry import RegisteredDataset
from service.domain.repositories.runs import RunFilter
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.scheduling.packs import PAIR_SIZE, pair_findings
from service.domain.states import RunState
from service.domain.vocabulary import BaselineMode
from service.usecases.access import resolve_project
from service.usecases.baselines.controls import control_findings, plan_controls
from service.usecases.baselines.lookup import BaselineLookup, get_dataset_digest, look_up_baseline
from service.usecases.baselines.noise import compute_dataset_noise
from service.usecases.baselines.teacher_check import check_teacher
from service.usecases.context import Context
from service.usecases.methods import pin_requested_methods
from service.usecases.projects import check_priority
from service.usecases.registry import explain_missing_dataset, find_statistics
from service.usecases.runs.outside_facts import OutsideFacts, look_outside
from service.usecases.runs.queries import get_run_classes

_MAX_EARLIER_RUNS = 50
"""How many runs are searched for one that the duration of a run can be estimated from."""


@dataclass(frozen=True)
class LaunchRun:
    """Request to launch a run: a preset with changes, or the full spec of a task."""

    preset: str | None = None
    changes: dict[str, JsonValue] = field(default_factory=dict)
    spec: dict[str, JsonValue] | None = None
    task: Task = "train"
    name: str | None = None
    project: str | None = None
    """`None` selects the caller's project, or else the default project."""

    priority: int = 0
    baseline: BaselineMode = "auto"
    controls: tuple[TeacherControl, ...] = ()
    pack: bool = False
    """Whether the run trains in one process with a new baseline."""

    digest: str = ""
    """Digest of the original request, to which an idempotency key is bound."""


@dataclass(frozen=True)
class PlanOptions:
    """What a request asks for besides its spec."""

    project: str
    baseline: BaselineMode = "auto"
    pack: bool = False
    controls: tuple[TeacherControl, ...] = ()


def plan_run(request: LaunchRun, *, caller: Caller, ctx: Context) -> Plan:
    """Plan a requested run; `SpecRefused` for an invalid spec, findings for other problems."""
    options = make_plan_options(request, caller=caller)
    with ctx.store.snapshot() as uow:
        check_priority(uow, request.priority, project=options.project, caller=caller)
    spec = pin_requested_methods(parse_requested_spec(request), ctx=ctx)
    return plan_spec(spec, options, caller=caller, ctx=ctx)


def make_plan_options(request: LaunchRun, *, caller: Caller) -> PlanOptions:
    """The options of a request, in the caller's project or else the default one."""
    project = resolve_project(request.project, caller=caller) or DEFAULT_PROJECT
    return PlanOptions(project, request.baseline, request.pack, request.controls)


def plan_spec(
    spec: JobSpec, options: PlanOptions | None = None, *, caller: Caller, ctx: Context
) -> Plan:
    """Plan a valid spec: findings against it, its baseline, and the seed noise."""
    options = options or PlanOptions(resolve_project(None, caller=caller) or DEFAULT_PROJECT)
    outside = look_outside(spec, ctx=ctx)
    with ctx.store.snapshot() as uow:
        plan, _ = check_spec(uow, spec, options, outside=outside, caller=caller)
        if isinstance(spec, RunSpec):
            plan = _add_comparison(uow, spec, plan, options)
        plan = replace(plan, estimate=_estimate(uow, spec, options))
        name = get_dataset_name(spec)
        dataset = None if name is None else uow.registry.dataset(name)
    if not isinstance(spec, RunSpec) or dataset is None:
        return plan
    # Not in `check_spec`: launches only need errors, and these are warnings.
    statistics = find_statistics(dataset, ctx=ctx)
    findings = () if statistics is None else tuple(dataset_findings(spec, statistics))
    return replace(plan, findings=(*plan.findings, *findings))


def check_spec(
    uow: UnitOfWork,
    spec: JobSpec,
    options: PlanOptions,
    *,
    outside: OutsideFacts,
    caller: Caller,
) -> tuple[Plan, str | None]:
    """Find what is wrong with a spec, without its baseline, noise and estimate.

    Returns the digest of the dataset as well; `None` for jobs that do not train, and if the dataset
    is not registered.
    """
    facts = _collect_facts(uow, spec, outside, caller=caller)
    plan = make_plan(spec, facts)
    has_baseline = needs_baseline(spec, options.baseline)
    findings = [*control_findings(spec, options.controls, has_baseline=has_baseline)]
    if options.pack:
        findings += pair_findings(spec, has_baseline=has_baseline)
    plan = replace(plan, findings=(*plan.findings, *findings))
    if not isinstance(spec, RunSpec) or facts.dataset is None:
        return plan, None
    return plan, facts.dataset.manifest.digest


def _add_comparison(uow: UnitOfWork, spec: RunSpec, plan: Plan, options: PlanOptions) -> Plan:
    """The plan with the baseline, the controls and the noise that a run would be compared with."""
    project = options.project
    lookup = (
        look_up_baseline(uow, spec, project=project)
        if is_distilled(spec)
        else BaselineLookup(get_dataset_digest(uow, spec), reusable=None)
    )
    warning = check_teacher(uow, spec, project=project, lookup=lookup)
    noise = compute_dataset_noise(uow, spec, dataset_digest=lookup.dataset_digest, project=project)
    has_baseline = needs_baseline(spec, options.baseline)
    are_possible = not any(control_findings(spec, options.controls, has_baseline=has_baseline))
    controls = options.controls if are_possible else ()
    baseline = None if lookup.reusable is None else uow.runs.get(lookup.reusable.id)
    return replace(
        plan,
        findings=(*plan.findings, *([warning] if warning else [])),
        baseline=PlannedBaseline(baseline) if has_baseline else None,
        controls=plan_controls(
            uow, spec, controls, project=project, dataset_digest=lookup.dataset_digest
        ),
        noise=noise.floor,
    )


def parse_requested_spec(request: LaunchRun) -> JobSpec:
    """Parse the spec of a request; `SpecRefused` lists every invalid field."""
    try:
        if request.task != "train":
            return parse_job({**(request.spec or {}), "task": request.task})
        if request.preset is None:
            return parse_spec(request.spec)
        return spec_from_preset(request.preset, request.changes)
    except UnknownPreset as error:
        raise PresetNotFound(str(error)) from error
    except SpecError as error:
        raise to_spec_refused(error) from error


def to_spec_refused(error: SpecError) -> SpecRefused:
    """The error of a request whose spec has these problems."""
    return SpecRefused(
        [FieldError(problem.field, "invalid", problem.message) for problem in error.problems]
    )


def _estimate(uow: UnitOfWork, spec: JobSpec, options: PlanOptions) -> RunEstimate | None:
    """Estimate the length of a training run from the newest runs of the project on its dataset."""
    name = get_dataset_name(spec)
    dataset = None if name is None else uow.registry.dataset(name)
    if dataset is None or not isinstance(spec, RunSpec):
        return None
    succeeded = RunFilter(
        states=(RunState.SUCCEEDED,),
        tasks=("train",),
        dataset=name,
        project=options.project,
        limit=_MAX_EARLIER_RUNS,
    )
    pack_size = PAIR_SIZE if options.pack else 1
    reference = find_reference(spec, uow.runs.page(succeeded), pack_size=pack_size)
    points = (
        [] if reference is None else uow.metric_points.of_run(reference.run_id, key=Metric.LOSS)
    )
    return estimate_run(
        spec,
        num_images=dataset.manifest.train.num_images,
        reference=reference,
        points=points,
    )


def _collect_facts(
    uow: UnitOfWork, spec: JobSpec, outside: OutsideFacts, *, caller: Caller
) -> Facts:
    references = references_of(spec)
    dataset, teacher = references.dataset, references.model
    teacher_run = (
        _find_run(uow, teacher.run, caller=caller) if isinstance(teacher, RunTeacher) else None
    )
    dataset_name = dataset.name if isinstance(dataset, NamedDataset) else None
    teacher_name = teacher.name if isinstance(teacher, NamedTeacher) else None
    registered_dataset, registered_teacher = uow.registry.find(
        dataset=dataset_name, teacher=teacher_name
    )
    unlabelled, unlabelled_hint = _find_dataset(uow, references.unlabelled)
    return Facts(
        dataset=registered_dataset,
        dataset_hint=explain_missing_dataset(uow, dataset_name)
        if dataset_name and registered_dataset is None
        else "",
        unlabelled=unlabelled,
        unlabelled_hint=unlabelled_hint,
        shared_images=outside.shared_images,
        teacher=registered_teacher,
        teacher_hint=_explain_missing_teacher(uow, teacher_name, caller=caller)
        if teacher_name and registered_teacher is None
        else "",
        teacher_run=teacher_run,
        teacher_run_classes=None if teacher_run is None else get_run_classes(uow, teacher_run),
        weights=outside.weights,
        nodes=outside.nodes,
    )


def _find_dataset(
    uow: UnitOfWork, reference: Dataset | None
) -> tuple[RegisteredDataset | None, str]:
    """The dataset that is named, or else how to get it."""
    if not isinstance(reference, NamedDataset):
        return None, ""
    dataset = uow.registry.dataset(reference.name)
    return dataset, "" if dataset else explain_missing_dataset(uow, reference.name)


def _explain_missing_teacher(uow: UnitOfWork, name: str, *, caller: Caller) -> str:
    """How to get a teacher that is not registered: the run that trains it, if there is one."""
    card = known_teachers().get(name)
    run = None
    if card is not None and not card.can_be_fetched:
        project = resolve_project(None, caller=caller)
        candidates = uow.runs.page(RunFilter(preset=card.preset, project=project))
        run = next((item for item in candidates if _can_teach(item, card.detector)), None)
    registered = [item.name for item in uow.registry.teachers()]
    return how_to_get_teacher(name, registered=registered, run_id=None if run is None else run.id)


def _can_teach(run: Run, detector: Detector) -> bool:
    """Whether a run trains this detector, or has trained it."""
    is_lost = run.state in (RunState.FAILED, RunState.CANCELLED)
    is_of_student = isinstance(run.spec, RunSpec) and run.spec.student.architecture == detector
    return is_of_student and not is_lost


def _find_run(uow: UnitOfWork, run_id: str, *, caller: Caller) -> Run | None:
    try:
        run = uow.runs.get(run_id)
    except RunNotFound:
        return None
    return run if caller.can_see(run.project) else None
