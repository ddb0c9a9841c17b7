"""Launches runs."""

from configs.spec.jobs import Task
from service.domain.access import Caller
from service.domain.planning.findings import raise_for_errors
from service.domain.runs import Run
from service.usecases.context import Context
from service.usecases.idempotency import IdempotentLaunch
from service.usecases.nodes import list_nodes_or_none
from service.usecases.projects import check_priority
from service.usecases.runs.enqueue import add_run, create_queued_run
from service.usecases.runs.plan import (
    LaunchRun,
    look_up_weights,
    make_plan_options,
    parse_requested_spec,
    plan_in_transaction,
)

_DEFAULT_NAMES: dict[Task, str] = {
    "train": "run",
    "evaluate": "evaluation",
    "export": "export",
    "probe": "probe",
    "report": "report",
}


def launch_run(
    request: LaunchRun, *, key: str | None, caller: Caller, ctx: Context
) -> tuple[Run, bool]:
    """Queue a run, and return whether it is new: a repeated idempotency key returns its run.

    A distilled run is launched with its baseline unless the request disables that. Raises
    `SpecRefused` for a plan with errors, and `IdempotencyKeyReused` for another request's key.
    """
    options = make_plan_options(request, caller=caller)
    launch = IdempotentLaunch(
        key, digest=request.digest, caller=caller, get=lambda uow, run_id: uow.runs.get(run_id)
    )
    if earlier := launch.find_earlier(ctx=ctx):
        return earlier, False
    spec = parse_requested_spec(request)
    nodes, weights = list_nodes_or_none(ctx), look_up_weights(spec, ctx=ctx)
    run = create_queued_run(
        spec,
        name=request.name or request.preset or _DEFAULT_NAMES[request.task],
        project=options.project,
        priority=request.priority,
        at=ctx.clock.now(),
        preset=request.preset,
    )
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        if earlier := launch.lock_and_find_earlier(uow):
            return earlier, False
        check_priority(uow, request.priority, project=options.project, caller=caller)
        plan, lookup = plan_in_transaction(
            uow, spec, options, nodes=nodes, weights=weights, caller=caller
        )
        raise_for_errors(plan.findings)
        run = add_run(uow, run, actor=caller.name, lookup=lookup, is_packed=request.pack)
        launch.bind(uow, run.id)
    return run, True
