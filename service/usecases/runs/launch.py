"""Plan, launch, show and list runs."""

from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.jobs import Task
from service.domain.access import Caller
from service.domain.baselines import wants_twin
from service.domain.errors import (
    FieldFault,
    KeyReused,
    SpecRefused,
)
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Run
from service.usecases.access import project_for
from service.usecases.context import World
from service.usecases.idempotency import key_as_kept
from service.usecases.runs.enqueue import add_run, queued_run
from service.usecases.runs.plan import Request, plan_run

_NAMES: dict[Task, str] = {
    "train": "run",
    "evaluate": "evaluation",
    "export": "export",
    "probe": "probe",
    "report": "report",
}


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
