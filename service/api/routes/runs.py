"""Runs: launch, plan, list, show and control them; their attempts and metrics."""

from typing import Annotated

from fastapi import Header, Query, Response, status

from service.api.deps import CallerDep, ContextDep
from service.api.responses import describe_launch, make_json_response
from service.api.routers import create_router
from service.api.schemas.run_lists import RunPage, RunQuery
from service.api.schemas.run_pages import AttemptPage, AttemptQuery, MetricPage, MetricQuery
from service.api.schemas.runs import (
    LossSharesView,
    PlanView,
    PriorityRequest,
    RepeatRequest,
    RepeatView,
    RunRequest,
    RunView,
)
from service.api.views import (
    to_attempt_view,
    to_loss_shares_view,
    to_metric_view,
    to_plan_view,
    to_repeat_view,
    to_run_summary_view,
    to_run_view,
)
from service.domain.repositories.runs import RunFilter
from service.domain.runs import Run
from service.usecases import idempotency
from service.usecases.baselines import repeat
from service.usecases.context import Context
from service.usecases.runs import actions, launch, plan, queries
from service.usecases.runs.queries import ListedRun, ShownRun

router = create_router(tag="runs")

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200)]


def make_run_page(runs: list[ListedRun], *, limit: int, ctx: Context) -> RunPage:
    """A page of `limit` runs; one run more in `runs` tells that another page follows."""
    items = [to_run_summary_view(run, mlflow=ctx.mlflow_pages) for run in runs[:limit]]
    return RunPage(items=items, next_cursor=items[-1].id if len(runs) > limit else None)


@router.post("/runs", status_code=status.HTTP_201_CREATED, response_model=RunView)
def launch_run(
    body: RunRequest,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Launch a run from a preset with changes, or from a whole spec."""
    run, is_new = launch.launch_run(
        _to_launch_run(body), key=idempotency_key, caller=caller, ctx=ctx
    )
    # A new run is compared with nothing yet.
    details = ShownRun(run) if is_new else queries.add_details(run, ctx=ctx)
    view = to_run_view(details, mlflow=ctx.mlflow_pages)
    response = make_json_response(view, status_code=status.HTTP_201_CREATED)
    describe_launch(response, f"/v1/runs/{run.id}", is_new=is_new)
    return response


@router.post("/runs:plan")
def plan_run(body: RunRequest, ctx: ContextDep, caller: CallerDep) -> PlanView:
    """Dry run: the resolved spec, and every finding that would make a launch fail or warn."""
    return to_plan_view(plan.plan_run(_to_launch_run(body), caller=caller, ctx=ctx))


@router.get("/runs")
def list_runs(ctx: ContextDep, caller: CallerDep, query: Annotated[RunQuery, Query()]) -> RunPage:
    """Runs of every task, page by page, without their specs, metrics and messages.

    A parameter that takes several values is repeated: `?state=queued&state=running`. Filters
    combine: a run has to match all of them.
    """
    tag = None
    if query.tag is not None:
        key, _, value = query.tag.partition("=")
        tag = (key, value)
    run_filter = RunFilter(
        id_prefix=query.id_prefix,
        states=query.state,
        tasks=query.task,
        project=query.project,
        preset=query.preset,
        dataset=query.dataset,
        tag=tag,
        sweep=query.sweep,
        trial=query.trial,
        order=query.sort,
        before=query.cursor,
        limit=query.limit + 1,
    )
    runs = queries.list_runs(run_filter, caller=caller, ctx=ctx)
    return make_run_page(runs, limit=query.limit, ctx=ctx)


@router.get("/runs/{run_id}")
def show_run(run_id: str, ctx: ContextDep) -> RunView:
    """One run as it is now."""
    return to_run_view(queries.get_run_details(run_id, ctx=ctx), mlflow=ctx.mlflow_pages)


@router.get("/runs/{run_id}/attempts")
def list_attempts(
    run_id: str, ctx: ContextDep, query: Annotated[AttemptQuery, Query()]
) -> AttemptPage:
    """The attempts of a run, page by page: where each ran, and how it ended."""
    limit = query.limit
    attempts = queries.list_attempts(run_id, after=query.cursor, limit=limit + 1, ctx=ctx)
    items = [to_attempt_view(attempt) for attempt in attempts[:limit]]
    return AttemptPage(items=items, next_cursor=items[-1].number if len(attempts) > limit else None)


@router.get("/runs/{run_id}/metrics")
def list_metrics(
    run_id: str, ctx: ContextDep, query: Annotated[MetricQuery, Query()]
) -> MetricPage:
    """Metric values by key and step, page by page."""
    step, _, key = (query.cursor or "").partition("/")
    points = queries.list_metric_points(
        run_id,
        key=query.key,
        after=None if query.cursor is None else (key, int(step)),
        limit=query.limit + 1,
        ctx=ctx,
    )
    has_more, points = len(points) > query.limit, points[: query.limit]
    return MetricPage(
        items=[to_metric_view(point) for point in points],
        next_cursor=f"{points[-1].step}/{points[-1].key}" if has_more else None,
    )


@router.get("/runs/{run_id}/loss-budget")
def show_loss_shares(run_id: str, ctx: ContextDep) -> LossSharesView:
    """The share of the gradient and the direction of each term of the loss."""
    return to_loss_shares_view(queries.get_loss_shares(run_id, ctx=ctx))


@router.post("/runs/{run_id}:cancel")
def cancel_run(run_id: str, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Cancel a run: a queued one at once, an active one when its worker reports next."""
    run = actions.cancel_run(run_id, caller=caller, ctx=ctx)
    return _make_view(run, ctx=ctx)


@router.post("/runs/{run_id}:pause")
def pause_run(run_id: str, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Write a checkpoint and release the run's resources until it is resumed."""
    run = actions.pause_run(run_id, caller=caller, ctx=ctx)
    return _make_view(run, ctx=ctx)


@router.post("/runs/{run_id}:resume")
def resume_run(run_id: str, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Queue a paused run again; it resumes from its last checkpoint."""
    run = actions.resume_run(run_id, caller=caller, ctx=ctx)
    return _make_view(run, ctx=ctx)


@router.post("/runs/{run_id}:retry")
def retry_run(run_id: str, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Queue a failed or cancelled run again, from its last checkpoint; failures count from zero."""
    run = actions.retry_run(run_id, caller=caller, ctx=ctx)
    return _make_view(run, ctx=ctx)


@router.post("/runs/{run_id}:prioritize")
def prioritize_run(
    run_id: str, body: PriorityRequest, ctx: ContextDep, caller: CallerDep
) -> RunView:
    """Change the priority of a run."""
    run = actions.set_priority(run_id, body.priority, caller=caller, ctx=ctx)
    return _make_view(run, ctx=ctx)


@router.post("/runs/{run_id}:repeat")
def repeat_run(
    run_id: str, body: RepeatRequest, response: Response, ctx: ContextDep, caller: CallerDep
) -> RepeatView:
    """Launch the missing runs so that a distilled run, its baseline and its controls are trained
    with `seeds` seeds, on which the verdict then rests. A repeated request launches nothing."""
    pairs = repeat.repeat_run(
        run_id,
        seeds=body.seeds,
        pack=body.pack,
        controls=body.controls,
        caller=caller,
        ctx=ctx,
    )
    if any(pair.is_new for pair in pairs):
        response.status_code = status.HTTP_201_CREATED
    return to_repeat_view(run_id, pairs)


def _make_view(run: Run, *, ctx: Context) -> RunView:
    return to_run_view(queries.add_details(run, ctx=ctx), mlflow=ctx.mlflow_pages)


def _to_launch_run(body: RunRequest) -> plan.LaunchRun:
    return plan.LaunchRun(
        preset=body.preset,
        changes=body.changes,
        spec=body.spec,
        name=body.name,
        project=body.project,
        priority=body.priority,
        baseline=body.baseline,
        controls=body.controls,
        pack=body.pack,
        digest=idempotency.request_digest(body.model_dump_json().encode()),
    )
