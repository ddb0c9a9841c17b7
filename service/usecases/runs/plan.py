"""What launching a spec would do: its findings, resources and baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from configs.catalog import (
    SpecError,
    UnknownPreset,
    apply_changes,
    load_preset,
    parse_job,
    parse_spec,
)
from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.jobs import JobSpec, Task
from configs.spec.run import NamedDataset, NamedTeacher, RunSpec, RunTeacher
from configs.teacher_catalog import how_to_get_teacher
from service.domain.access import Caller
from service.domain.baselines import BaselineMode, PlannedBaseline, needs_baseline
from service.domain.errors import (
    ClusterUnreachable,
    FieldError,
    PresetNotFound,
    RunNotFound,
    SpecRefused,
)
from service.domain.planning.findings import Facts
from service.domain.planning.plan import Plan, make_plan
from service.domain.planning.references import references_of
from service.domain.ports import Node
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.scheduling.packs import pair_findings
from service.usecases.access import resolve_project
from service.usecases.baselines.lookup import find_reusable_baseline
from service.usecases.baselines.noise import compute_spec_noise
from service.usecases.baselines.teacher_check import check_teacher
from service.usecases.context import Context
from service.usecases.nodes import list_nodes
from service.usecases.runs.queries import get_run_classes


@dataclass(frozen=True)
class LaunchRun:
    """A preset with changes, or a whole spec of a task."""

    preset: str | None = None
    changes: dict[str, JsonValue] = field(default_factory=dict)
    spec: dict[str, JsonValue] | None = None
    task: Task = "train"
    name: str | None = None
    project: str | None = None
    """None: the caller's own, else the default one."""

    priority: int = 0
    baseline: BaselineMode = "auto"
    pack: bool = False
    """Whether it trains in one process with a baseline that is booked for it."""

    digest: str = ""
    """Of the request as it came: what an idempotency key is bound to."""


def plan_run(request: LaunchRun, *, caller: Caller, ctx: Context) -> Plan:
    """The dry run; `SpecRefused` if the spec itself is not valid, findings for everything else."""
    project = resolve_project(request.project, caller=caller)
    return plan_spec(
        parse_requested_spec(request),
        project=project,
        baseline=request.baseline,
        pack=request.pack,
        caller=caller,
        ctx=ctx,
    )


def plan_spec(
    spec: JobSpec,
    *,
    project: str | None = None,
    baseline: BaselineMode = "auto",
    pack: bool = False,
    caller: Caller,
    ctx: Context,
) -> Plan:
    """What stands against a spec that is valid, and what its run would be compared with."""
    nodes = _nodes_or_none(ctx)
    with ctx.store.transaction() as uow:
        plan = make_plan(spec, _facts(uow, spec, nodes, caller=caller))
        has_twin = needs_baseline(spec, baseline)
        if pack:
            refused = pair_findings(spec, has_baseline=has_twin)
            plan = replace(plan, findings=(*plan.findings, *refused))
        if not isinstance(spec, RunSpec):
            return plan
        of = project or resolve_project(None, caller=caller) or DEFAULT_PROJECT
        warning = check_teacher(uow, spec, project=of)
        return replace(
            plan,
            findings=(*plan.findings, *([warning] if warning else [])),
            baseline=PlannedBaseline(find_reusable_baseline(uow, spec, project=of))
            if has_twin
            else None,
            noise=compute_spec_noise(uow, spec, project=of).floor,
        )


def parse_requested_spec(request: LaunchRun) -> JobSpec:
    """The spec that a request is for; `SpecRefused` names every field that is wrong."""
    try:
        if request.task != "train":
            return parse_job({**(request.spec or {}), "task": request.task})
        if request.preset is None:
            return parse_spec(request.spec)
        return parse_spec(apply_changes(load_preset(request.preset).document, request.changes))
    except UnknownPreset as error:
        raise PresetNotFound(str(error)) from error
    except SpecError as error:
        raise SpecRefused(
            [FieldError(problem.field, "invalid", problem.message) for problem in error.problems]
        ) from error


def _nodes_or_none(ctx: Context) -> tuple[Node, ...] | None:
    try:
        return list_nodes(ctx)
    except ClusterUnreachable:
        return None


def _facts(
    uow: UnitOfWork, spec: JobSpec, nodes: Sequence[Node] | None, *, caller: Caller
) -> Facts:
    references = references_of(spec)
    dataset, teacher = references.dataset, references.model
    teacher_run = (
        _run_or_none(uow, teacher.run, caller=caller) if isinstance(teacher, RunTeacher) else None
    )
    return Facts(
        dataset=uow.registry.dataset(dataset.name) if isinstance(dataset, NamedDataset) else None,
        teacher=uow.registry.teacher(teacher.name) if isinstance(teacher, NamedTeacher) else None,
        teacher_hint=how_to_get_teacher(teacher.name) if isinstance(teacher, NamedTeacher) else "",
        teacher_run=teacher_run,
        teacher_run_classes=None if teacher_run is None else get_run_classes(uow, teacher_run),
        nodes=None if nodes is None else tuple(nodes),
    )


def _run_or_none(uow: UnitOfWork, run_id: str, *, caller: Caller) -> Run | None:
    try:
        run = uow.runs.get(run_id)
    except RunNotFound:
        return None
    return run if caller.can_see(run.project) else None
