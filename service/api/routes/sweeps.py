"""Launch, plan, list and show sweeps, and what people want of them; and the driver's door."""

from typing import Annotated

from fastapi import APIRouter, Query, Response, status

from configs.protocol.sweep_log import AppendReceipt, SearchProgress, SweepLog, SweepLogAppend
from service.api.deps import CallerDep, ContextDep, DriverDep
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
    TrialView,
)
from service.api.views import to_run_view, to_sweep_plan_view, to_sweep_view, to_trial_view
from service.domain.repositories.sweeps import SweepFilter
from service.domain.sweeps import Sweep
from service.usecases.context import Context
from service.usecases.idempotency import request_digest
from service.usecases.runs.plan import LaunchRun
from service.usecases.sweeps import (
    actions,
    driver_log,
    launch,
    trials,
)
from service.usecases.sweeps import (
    status as sweeps_status,
)

router = APIRouter(prefix="/v1", tags=["sweeps"])

_OF_THE_RUN = {"name", "project", "priority", "preset", "changes", "spec"}


@router.post("/sweeps", status_code=status.HTTP_201_CREATED)
def launch_sweep(
    body: SweepRequest,
    response: Response,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> SweepView:
    """Search around a run, from a preset with changes or from a whole spec."""
    sweep, is_new = launch.launch_sweep(_request(body), key=idempotency_key, caller=caller, ctx=ctx)
    response.headers["Location"] = f"/v1/sweeps/{sweep.id}"
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return _view(sweep, ctx=ctx)


@router.post("/sweeps:plan")
def plan_sweep(body: SweepRequest, ctx: ContextDep, caller: CallerDep) -> SweepPlanView:
    """The dry run: the resolved spec and everything that stands against it."""
    return to_sweep_plan_view(launch.plan_sweep(_request(body), caller=caller, ctx=ctx))


@router.get("/sweeps")
def list_sweeps(
    ctx: ContextDep, caller: CallerDep, query: Annotated[SweepQuery, Query()]
) -> SweepPage:
    """Sweeps, newest first."""
    which = SweepFilter(
        state=query.state, project=query.project, before=query.cursor, limit=query.limit + 1
    )
    found = launch.list_sweeps(which, caller=caller, ctx=ctx)
    shown = sweeps_status.get_statuses(found[: query.limit], ctx=ctx)
    items = [to_sweep_view(one, mlflow_url=ctx.mlflow_public_url) for one in shown]
    return SweepPage(items=items, next_cursor=items[-1].id if len(found) > query.limit else None)


@router.get("/sweeps/{sweep_id}")
def show_sweep(sweep_id: str, ctx: ContextDep) -> SweepView:
    """One sweep: its trials counted, the best so far, what it waits for."""
    found = sweeps_status.get_status(sweep_id, ctx=ctx)
    return to_sweep_view(found, mlflow_url=ctx.mlflow_public_url)


@router.get("/sweeps/{sweep_id}/trials")
def list_trials(sweep_id: str, ctx: ContextDep) -> list[TrialView]:
    """A sweep's trials: values, runs, how far they are and how they ended."""
    sweep, found = trials.list_trials(sweep_id, ctx=ctx)
    return [to_trial_view(one, sweep) for one in found]


@router.get("/sweeps/{sweep_id}/report", response_class=Response, responses=REPORT_RESPONSES)
def show_report(sweep_id: str, ctx: ContextDep, query: Annotated[ReportQuery, Query()]) -> Response:
    """The pages about a sweep: did it help, by how much, where not."""
    content = sweeps_status.read_sweep_report(sweep_id, query.format, ctx=ctx)
    return Response(content, media_type=REPORT_MEDIA_TYPES[query.format])


@router.post("/sweeps/{sweep_id}:stop")
def stop_sweep(sweep_id: str, ctx: ContextDep, caller: CallerDep) -> SweepView:
    """Begin no more trials and end those that go on; what they reached is kept."""
    return _view(actions.stop_sweep(sweep_id, caller=caller, ctx=ctx), ctx=ctx)


@router.post("/sweeps/{sweep_id}:extend")
def extend_sweep(
    sweep_id: str, body: ExtendRequest, ctx: ContextDep, caller: CallerDep
) -> SweepView:
    """Have a sweep that is over search on: more trials, other bounds, another algorithm."""
    extension = actions.SweepExtension(
        trials=body.trials,
        hours=body.hours,
        gpu_hours=body.gpu_hours,
        space=body.space,
        algorithm=body.algorithm,
    )
    extended = actions.extend_sweep(sweep_id, extension, caller=caller, ctx=ctx)
    return _view(extended, ctx=ctx)


@router.post("/sweeps/{sweep_id}:promote", status_code=status.HTTP_201_CREATED)
def promote_trial(
    sweep_id: str,
    body: PromoteRequest,
    response: Response,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Launch the best trial, or another one, as a run of its own."""
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
    response.headers["Location"] = f"/v1/runs/{run.id}"
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return to_run_view(run, mlflow_url=ctx.mlflow_public_url)


@router.get("/sweeps/{sweep_id}/log", include_in_schema=False)
def read_log(
    sweep_id: str,
    ctx: ContextDep,
    driver: DriverDep,
    first: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> SweepLog:
    """A driver reads the list."""
    return driver_log.read_log(sweep_id, first=first, driver=driver, ctx=ctx)


@router.post("/sweeps/{sweep_id}/log", include_in_schema=False)
def append_to_log(
    sweep_id: str, body: SweepLogAppend, ctx: ContextDep, driver: DriverDep
) -> AppendReceipt:
    """A driver writes into the list."""
    return driver_log.append_entries(sweep_id, body, driver=driver, ctx=ctx)


@router.get("/sweeps/{sweep_id}/standings", include_in_schema=False)
def show_standings(sweep_id: str, ctx: ContextDep, driver: DriverDep) -> SearchProgress:
    """A driver asks how far the trials are."""
    return driver_log.read_standings(sweep_id, driver=driver, ctx=ctx)


def _view(sweep: Sweep, *, ctx: Context) -> SweepView:
    (found,) = sweeps_status.get_statuses([sweep], ctx=ctx)
    return to_sweep_view(found, mlflow_url=ctx.mlflow_public_url)


def _request(body: SweepRequest) -> launch.LaunchSweep:
    return launch.LaunchSweep(
        base=LaunchRun(preset=body.preset, changes=body.changes, spec=body.spec),
        search=body.model_dump(mode="json", exclude=_OF_THE_RUN, exclude_none=True),
        name=body.name,
        project=body.project,
        priority=body.priority,
        digest=request_digest(f"sweep {body.model_dump_json()}".encode()),
    )
