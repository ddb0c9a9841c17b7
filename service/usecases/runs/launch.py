"""Plan, launch, show and list runs."""

from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.jobs import Task
from service.domain.access import Caller
from service.domain.baselines import needs_baseline
from service.domain.errors import (
    FieldError,
    IdempotencyKeyReused,
    SpecRefused,
)
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.usecases.access import resolve_project
from service.usecases.context import Context
from service.usecases.idempotency import scope_key
from service.usecases.runs.enqueue import add_run, create_queued_run
from service.usecases.runs.plan import LaunchRun, plan_run

_NAMES: dict[Task, str] = {
    "train": "run",
    "evaluate": "evaluation",
    "export": "export",
    "probe": "probe",
    "report": "report",
}


def launch_run(
    request: LaunchRun, *, key: str | None, caller: Caller, ctx: Context
) -> tuple[Run, bool]:
    """Queue a run, and whether it is new: the same idempotency key gives the same run.

    A taught one is booked together with its twin without a teacher, unless that is refused.
    """
    project = resolve_project(request.project, caller=caller) or DEFAULT_PROJECT
    if key is not None and (earlier := _earlier_run(key, request, caller=caller, ctx=ctx)):
        return earlier, False
    plan = plan_run(request, caller=caller, ctx=ctx)
    if plan.errors:
        raise SpecRefused([FieldError(f.field, f.code, f.message) for f in plan.errors])
    now = ctx.clock.now()
    run = create_queued_run(
        plan.spec,
        name=request.name or request.preset or _NAMES[request.task],
        project=project,
        priority=request.priority,
        at=now,
        preset=request.preset,
    )
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        if key is not None and (earlier := _owner_of_key(uow, key, request, caller=caller)):
            return earlier, False
        run = add_run(
            uow,
            run,
            actor=caller.name,
            has_baseline=needs_baseline(run.spec, request.baseline),
            is_packed=request.pack,
        )
        if key is not None:
            kept = scope_key(key, caller=caller)
            uow.runs.add_idempotency_key(kept, request_digest=request.digest, run_id=run.id)
    return run, True


def _earlier_run(key: str, request: LaunchRun, *, caller: Caller, ctx: Context) -> Run | None:
    with ctx.store.transaction() as uow:
        return _owner_of_key(uow, key, request, caller=caller)


def _owner_of_key(uow: UnitOfWork, key: str, request: LaunchRun, *, caller: Caller) -> Run | None:
    owner = uow.runs.find_idempotency_key(scope_key(key, caller=caller))
    if owner is None:
        return None
    digest, run_id = owner
    if digest != request.digest:
        raise IdempotencyKeyReused(key)
    return uow.runs.get(run_id)
