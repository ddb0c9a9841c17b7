"""Sweeps: launch, plan, list, show and control them; and the endpoints of their drivers."""

from typing import Annotated

from fastapi import Query, Response, status

from configs.protocol.sweep_log import AppendReceipt, SearchProgress, SweepLog, SweepLogAppend
from service.api.deps import CallerDep, ContextDep, DriverDep
from service.api.responses import describe_launch
from service.api.routers import create_router
from service.api.routes.reports import REPORT_MEDIA_TYPES, REPORT_RESPONSES
from service.api.routes.runs import IdempotencyKey
from service.api.schemas.runs import ReportQuery, RunView
from service.api.schemas.sweeps import (
    ExtendRequest,
    PromoteRequest,
    SweepPage,
    SweepPlanView,
    SweepQuery,
    SweepRequest,
    SweepView,
    TrialPage,
    TrialQuery,
)
from service.api.views import to_run_view, to_sweep_plan_view, to_sweep_view, to_trial_view
from service.domain.repositories.sweeps import SweepFilter
from service.domain.sweeps import Sweep
from service.usecases.context import Context
from service.usecases.idempotency import request_digest
from service.usecases.runs.plan import LaunchRun
from service.usecases.runs.queries import ShownRun
from service.usecases.sweeps import (
    actions,
    driver_log,
    launch,
    trials,
)
from service.usecases.sweeps import (
    status as sweeps_status,
)

router = create_router(tag="sweeps")

_BASE_RUN_FIELDS = {"name", "project", "priority", "preset", "changes", "spec"}


@router.post("/sweeps", status_code=status.HTTP_201_CREATED)
def launch_sweep(
    body: SweepRequest,
    response: Response,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> SweepView:
    """Launch a sweep around a run, from a preset with changes or from a whole spec."""
    sweep, is_new = launch.launch_sweep(
        _to_launch_sweep(body), key=idempotency_key, caller=caller, ctx=ctx
    )
    describe_launch(response, f"/v1/sweeps/{sweep.id}", is_new=is_new)
    return _make_view(sweep, ctx=ctx)


@router.post("/sweeps:plan")
def plan_sweep(body: SweepRequest, ctx: ContextDep, caller: CallerDep) -> SweepPlanView:
    """Dry run of a sweep: the resolved spec and all findings."""
    return to_sweep_plan_view(launch.plan_sweep(_to_launch_sweep(body), caller=caller, ctx=ctx))


@router.get("/sweeps")
def list_sweeps(
    ctx: ContextDep, caller: CallerDep, query: Annotated[SweepQuery, Query()]
) -> SweepPage:
    """Sweeps, newest first."""
    sweep_filter = SweepFilter(
        id_prefix=query.id_prefix,
        state=query.state,
        project=query.project,
        before=query.cursor,
        limit=query.limit + 1,
    )
    sweeps = launch.list_sweeps(sweep_filter, caller=caller, ctx=ctx)
    statuses = sweeps_status.get_statuses(sweeps[: query.limit], ctx=ctx)
    items = [to_sweep_view(item, mlflow=ctx.mlflow_pages) for item in statuses]
    return SweepPage(items=items, next_cursor=items[-1].id if len(sweeps) > query.limit else None)


@router.get("/sweeps/{sweep_id}")
def show_sweep(sweep_id: str, ctx: ContextDep) -> SweepView:
    """One sweep: trial counts, the best trial so far, what it waits for."""
    sweep_status = sweeps_status.get_status(sweep_id, ctx=ctx)
    return to_sweep_view(sweep_status, mlflow=ctx.mlflow_pages)


@router.get("/sweeps/{sweep_id}/trials")
def list_trials(sweep_id: str, ctx: ContextDep, query: Annotated[TrialQuery, Query()]) -> TrialPage:
    """The trials of a sweep, page by page: values, runs, progress and results."""
    limit = query.limit
    sweep, states = trials.list_trials(sweep_id, after=query.cursor, limit=limit + 1, ctx=ctx)
    items = [to_trial_view(state, sweep) for state in states[:limit]]
    return TrialPage(items=items, next_cursor=items[-1].number if len(states) > limit else None)


@router.get("/sweeps/{sweep_id}/report", response_class=Response, responses=REPORT_RESPONSES)
def show_sweep_report(
    sweep_id: str, ctx: ContextDep, query: Annotated[ReportQuery, Query()]
) -> Response:
    """The report of a sweep, as HTML, Markdown or JSON."""
    content = sweeps_status.read_sweep_report(sweep_id, query.format, ctx=ctx)
    return Response(content, media_type=REPORT_MEDIA_TYPES[query.format])


@router.post("/sweeps/{sweep_id}:stop")
def stop_sweep(sweep_id: str, ctx: ContextDep, caller: CallerDep) -> SweepView:
    """Start no more trials and end the running ones; their results so far are kept."""
    return _make_view(actions.stop_sweep(sweep_id, caller=caller, ctx=ctx), ctx=ctx)


@router.post("/sweeps/{sweep_id}:extend")
def extend_sweep(
    sweep_id: str, body: ExtendRequest, ctx: ContextDep, caller: CallerDep
) -> SweepView:
    """Continue a sweep that is over: more trials, other bounds, another algorithm."""
    extension = actions.SweepExtension(
        trials=body.trials,
        hours=body.hours,
        gpu_hours=body.gpu_hours,
        space=body.space,
        algorithm=body.algorithm,
    )
    extended = actions.extend_sweep(sweep_id, extension, caller=caller, ctx=ctx)
    return _make_view(extended, ctx=ctx)


@router.post("/sweeps/{sweep_id}:promote", status_code=status.HTTP_201_CREATED)
def promote_trial(
    sweep_id: str,
    body: PromoteRequest,
    response: Response,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Launch the best trial, or the given one, as a run of its own."""
    promotion = actions.TrialPromotion(
        trial=body.trial,
        changes=body.changes,
        name=body.name,
        priority=body.priority,
        digest=request_digest(f"{sweep_id} {body.model_dump_json()}".encode()),
    )
    run, is_new = actions.promote_trial(
        sweep_id, promotion, key=idempotency_key, caller=caller, ctx=ctx
    )
    describe_launch(response, f"/v1/runs/{run.id}", is_new=is_new)
    return to_run_view(ShownRun(run), mlflow=ctx.mlflow_pages)


@router.get("/sweeps/{sweep_id}/log", include_in_schema=False)
def read_log(
    sweep_id: str,
    ctx: ContextDep,
    driver: DriverDep,
    first: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> SweepLog:
    """The sweep's log from position `first` on, for its driver."""
    return driver_log.read_log(sweep_id, first=first, driver=driver, ctx=ctx)


@router.post("/sweeps/{sweep_id}/log", include_in_schema=False)
def append_to_log(
    sweep_id: str, body: SweepLogAppend, ctx: ContextDep, driver: DriverDep
) -> AppendReceipt:
    """Append the driver's entries to the sweep's log."""
    return driver_log.append_entries(sweep_id, body, driver=driver, ctx=ctx)


@router.get("/sweeps/{sweep_id}/standings", include_in_schema=False)
def show_search_progress(sweep_id: str, ctx: ContextDep, driver: DriverDep) -> SearchProgress:
    """The progress of all unfinished trials, for the driver."""
    return driver_log.read_progress(sweep_id, driver=driver, ctx=ctx)


def _make_view(sweep: Sweep, *, ctx: Context) -> SweepView:
    (sweep_status,) = sweeps_status.get_statuses([sweep], ctx=ctx)
    return to_sweep_view(sweep_status, mlflow=ctx.mlflow_pages)


def _to_launch_sweep(body: SweepRequest) -> launch.LaunchSweep:
    return launch.LaunchSweep(
        base=LaunchRun(preset=body.preset, changes=body.changes, spec=body.spec),
        search=body.model_dump(mode="json", exclude=_BASE_RUN_FIELDS, exclude_none=True),
        name=body.name,
        project=body.project,
        priority=body.priority,
        digest=request_digest(f"sweep {body.model_dump_json()}".encode()),
    )
