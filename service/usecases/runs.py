"""Plan, launch, show and list runs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from configs.catalog import SpecError, UnknownPreset, changed, load_preset, parse_job, parse_spec
from configs.known_teachers import way_to_get
from configs.spec import (
    DEFAULT_PROJECT,
    ClassNames,
    JobSpec,
    NamedDataset,
    NamedTeacher,
    RunSpec,
    RunTeacher,
    Task,
)
from service.domain.access import Caller
from service.domain.errors import (
    ClusterUnreachable,
    FieldFault,
    KeyReused,
    PresetNotFound,
    RunNotFound,
    SpecRefused,
)
from service.domain.findings import Facts
from service.domain.packs import pair_findings
from service.domain.plan import Plan, make_plan
from service.domain.ports import Node
from service.domain.references import references_of
from service.domain.runs import Attempt, Run
from service.domain.stored import MetricPoint, RunFilter, Unit
from service.domain.twins import BaselineWish, PlannedBaseline, wants_twin
from service.usecases.access import project_for
from service.usecases.booking import add_run, queued_run, reusable_twin
from service.usecases.nodes import cluster_nodes
from service.usecases.noise import noise_of_spec
from service.usecases.teacher_check import teacher_finding
from service.usecases.world import World

_NAMES: dict[Task, str] = {
    "train": "run",
    "evaluate": "evaluation",
    "export": "export",
    "probe": "probe",
    "report": "report",
}


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


def launch_run(
    request: Request, *, key: str | None, caller: Caller, world: World
) -> tuple[Run, bool]:
    """Queue a run, and whether it is new: the same idempotency key gives the same run.

    A taught one is booked together with its twin without a teacher, unless that is refused.
    """
    project = project_for(request.project, caller=caller) or DEFAULT_PROJECT
    if key is not None and (earlier := _earlier_run(key, request, caller=caller, world=world)):
        return earlier, False
    plan = plan_run(request, caller=caller, world=world)
    if plan.errors:
        raise SpecRefused([FieldFault(f.field, f.code, f.message) for f in plan.errors])
    now = world.clock.now()
    run = queued_run(
        plan.spec,
        name=request.name or request.preset or _NAMES[request.task],
        project=project,
        priority=request.priority,
        at=now,
        preset=request.preset,
    )
    with world.store.begin() as unit:
        unit.runs.alone()
        if key is not None and (earlier := _owner_of_key(unit, key, request, caller=caller)):
            return earlier, False
        run = add_run(
            unit,
            run,
            actor=caller.name,
            has_twin=wants_twin(run.spec, request.baseline),
            is_packed=request.pack,
        )
        if key is not None:
            kept = key_as_kept(key, caller=caller)
            unit.runs.remember_key(kept, request_digest=request.digest, run_id=run.id)
    return run, True


def show_run(run_id: str, *, world: World) -> Run:
    """A run; `RunNotFound` if there is none."""
    with world.store.begin() as unit:
        return unit.runs.get(run_id)


def list_runs(which: RunFilter, *, caller: Caller, world: World) -> list[Run]:
    """Runs that the caller may see, newest first."""
    which = replace(which, project=project_for(which.project, caller=caller))
    with world.store.begin() as unit:
        if which.before is not None and not caller.sees(unit.runs.get(which.before).project):
            raise RunNotFound(which.before)
        return unit.runs.page(which)


def attempts_of_run(run_id: str, *, world: World) -> list[Attempt]:
    """The tries of a run."""
    with world.store.begin() as unit:
        unit.runs.get(run_id)
        return unit.attempts.of_run(run_id)


def metrics_of_run(run_id: str, *, key: str | None, world: World) -> list[MetricPoint]:
    """Metric values by key and step."""
    with world.store.begin() as unit:
        unit.runs.get(run_id)
        return unit.points.of_run(run_id, key=key)


def request_digest(body: bytes) -> str:
    """What tells one request from another."""
    return hashlib.sha256(body).hexdigest()


def classes_of_run(unit: Unit, run: Run) -> ClassNames | None:
    """The classes that a run's student knows; none if its dataset is not registered any more."""
    reference = references_of(run.spec).dataset
    dataset = unit.registry.dataset(reference.name) if isinstance(reference, NamedDataset) else None
    return None if dataset is None else dataset.manifest.classes


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


def _earlier_run(key: str, request: Request, *, caller: Caller, world: World) -> Run | None:
    with world.store.begin() as unit:
        return _owner_of_key(unit, key, request, caller=caller)


def _owner_of_key(unit: Unit, key: str, request: Request, *, caller: Caller) -> Run | None:
    owner = unit.runs.key_owner(key_as_kept(key, caller=caller))
    if owner is None:
        return None
    digest, run_id = owner
    if digest != request.digest:
        raise KeyReused(key)
    return unit.runs.get(run_id)


def key_as_kept(key: str, *, caller: Caller) -> str:
    """Every project has keys of its own: else one would be answered with a run of another."""
    if caller.project is None:
        return key
    return f"{caller.project}:{hashlib.sha256(key.encode()).hexdigest()}"
