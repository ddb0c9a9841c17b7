"""What launching a spec would do: its findings, resources and baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from configs.catalog import SpecError, UnknownPreset, changed, load_preset, parse_job, parse_spec
from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.jobs import JobSpec, Task
from configs.spec.run import NamedDataset, NamedTeacher, RunSpec, RunTeacher
from configs.teacher_catalog import way_to_get
from service.domain.access import Caller
from service.domain.baselines import BaselineWish, PlannedBaseline, wants_twin
from service.domain.errors import (
    ClusterUnreachable,
    FieldFault,
    PresetNotFound,
    RunNotFound,
    SpecRefused,
)
from service.domain.planning.findings import Facts
from service.domain.planning.plan import Plan, make_plan
from service.domain.planning.references import references_of
from service.domain.ports import Node
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Run
from service.domain.scheduling.packs import pair_findings
from service.usecases.access import project_for
from service.usecases.baselines.lookup import reusable_twin
from service.usecases.baselines.noise import noise_of_spec
from service.usecases.baselines.teacher_check import teacher_finding
from service.usecases.context import World
from service.usecases.nodes import cluster_nodes
from service.usecases.runs.queries import classes_of_run


@dataclass(frozen=True)
class Request:
    """A preset with changes, or a whole spec of a task."""

    preset: str | None = None
    changes: dict[str, JsonValue] = field(default_factory=dict)
    spec: dict[str, JsonValue] | None = None
    task: Task = "train"
    name: str | None = None
    project: str | None = None
    """None: the caller's own, else the default one."""

    priority: int = 0
    baseline: BaselineWish = "auto"
    pack: bool = False
    """Whether it trains in one process with a baseline that is booked for it."""

    digest: str = ""
    """Of the request as it came: what an idempotency key is bound to."""


def plan_run(request: Request, *, caller: Caller, world: World) -> Plan:
    """The dry run; `SpecRefused` if the spec itself is not valid, findings for everything else."""
    project = project_for(request.project, caller=caller)
    return plan_spec(
        spec_of(request),
        project=project,
        baseline=request.baseline,
        pack=request.pack,
        caller=caller,
        world=world,
    )


def plan_spec(
    spec: JobSpec,
    *,
    project: str | None = None,
    baseline: BaselineWish = "auto",
    pack: bool = False,
    caller: Caller,
    world: World,
) -> Plan:
    """What stands against a spec that is valid, and what its run would be compared with."""
    nodes = _nodes_or_none(world)
    with world.store.begin() as unit:
        plan = make_plan(spec, _facts(unit, spec, nodes, caller=caller))
        has_twin = wants_twin(spec, baseline)
        if pack:
            refused = pair_findings(spec, has_baseline=has_twin)
            plan = replace(plan, findings=(*plan.findings, *refused))
        if not isinstance(spec, RunSpec):
            return plan
        of = project or project_for(None, caller=caller) or DEFAULT_PROJECT
        warning = teacher_finding(unit, spec, project=of)
        return replace(
            plan,
            findings=(*plan.findings, *([warning] if warning else [])),
            baseline=PlannedBaseline(reusable_twin(unit, spec, project=of)) if has_twin else None,
            noise=noise_of_spec(unit, spec, project=of).floor,
        )


def spec_of(request: Request) -> JobSpec:
    """The spec that a request is for; `SpecRefused` names every field that is wrong."""
    try:
        if request.task != "train":
            return parse_job({**(request.spec or {}), "task": request.task})
        if request.preset is None:
            return parse_spec(request.spec)
        return parse_spec(changed(load_preset(request.preset).document, request.changes))
    except UnknownPreset as error:
        raise PresetNotFound(str(error)) from error
    except SpecError as error:
        raise SpecRefused(
            [FieldFault(problem.field, "invalid", problem.message) for problem in error.problems]
        ) from error


def _nodes_or_none(world: World) -> tuple[Node, ...] | None:
    try:
        return cluster_nodes(world)
    except ClusterUnreachable:
        return None


def _facts(unit: Unit, spec: JobSpec, nodes: Sequence[Node] | None, *, caller: Caller) -> Facts:
    references = references_of(spec)
    dataset, teacher = references.dataset, references.model
    teacher_run = (
        _run_or_none(unit, teacher.run, caller=caller) if isinstance(teacher, RunTeacher) else None
    )
    return Facts(
        dataset=unit.registry.dataset(dataset.name) if isinstance(dataset, NamedDataset) else None,
        teacher=unit.registry.teacher(teacher.name) if isinstance(teacher, NamedTeacher) else None,
        way_to_get_teacher=way_to_get(teacher.name) if isinstance(teacher, NamedTeacher) else "",
        teacher_run=teacher_run,
        teacher_run_classes=None if teacher_run is None else classes_of_run(unit, teacher_run),
        nodes=None if nodes is None else tuple(nodes),
    )


def _run_or_none(unit: Unit, run_id: str, *, caller: Caller) -> Run | None:
    try:
        run = unit.runs.get(run_id)
    except RunNotFound:
        return None
    return run if caller.sees(run.project) else None
