"""Launch, plan, list and show runs, and what people want of them; attempts and metrics."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response, status

from service.api.deps import CallerDep, ContextDep
from service.api.schemas.runs import (
    AttemptView,
    LossSharesView,
    MetricView,
    PlanView,
    PriorityRequest,
    RepeatRequest,
    RepeatView,
    RunPage,
    RunQuery,
    RunRequest,
    RunView,
)
from service.api.views import (
    to_attempt_view,
    to_loss_shares_view,
    to_metric_view,
    to_plan_view,
    to_repeat_view,
    to_run_view,
)
from service.domain.repositories.runs import RunFilter
from service.domain.runs import Run
from service.usecases import idempotency
from service.usecases.baselines import repeat
from service.usecases.baselines.comparisons import get_comparisons
from service.usecases.context import Context
from service.usecases.runs import actions, launch, plan, queries

router = APIRouter(prefix="/v1", tags=["runs"])

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200)]


def make_run_page(found: list[Run], *, limit: int, ctx: Context) -> RunPage:
    """A page, from one run more than it shows."""
    shown = found[:limit]
    compared = get_comparisons(shown, ctx=ctx)
    items = [
        to_run_view(run, mlflow_url=ctx.mlflow_public_url, comparison=compared.get(run.id))
        for run in shown
    ]
    return RunPage(items=items, next_cursor=items[-1].id if len(found) > limit else None)


@router.post("/runs", status_code=status.HTTP_201_CREATED)
def launch_run(
    body: RunRequest,
    response: Response,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Launch a run from a preset with changes, or from a whole spec."""
    run, is_new = launch.launch_run(_request(body), key=idempotency_key, caller=caller, ctx=ctx)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return _view(run, ctx=ctx)


@router.post("/runs:plan")
def plan_run(body: RunRequest, ctx: ContextDep, caller: CallerDep) -> PlanView:
    """The dry run: the resolved spec and everything that stands against it."""
    return to_plan_view(plan.plan_run(_request(body), caller=caller, ctx=ctx))


@router.get("/runs")
def list_runs(ctx: ContextDep, caller: CallerDep, query: Annotated[RunQuery, Query()]) -> RunPage:
    """Runs, newest first: those that train, and evaluations and exports."""
    pair = query.tag.partition("=") if query.tag is not None else None
    which = RunFilter(
        state=query.state,
        task=query.task,
        project=query.project,
        preset=query.preset,
        tag=None if pair is None else (pair[0], pair[2]),
        sweep=query.sweep,
        trial=query.trial,
        before=query.cursor,
        limit=query.limit + 1,
    )
    found = queries.list_runs(which, caller=caller, ctx=ctx)
    return make_run_page(found, limit=query.limit, ctx=ctx)


@router.get("/runs/{run_id}")
def show_run(run_id: str, ctx: ContextDep) -> RunView:
    """One run."""
    return _view(queries.get_run(run_id, ctx=ctx), ctx=ctx)


@router.get("/runs/{run_id}/attempts")
def list_attempts(run_id: str, ctx: ContextDep) -> list[AttemptView]:
    """The tries of a run: where each ran and how it ended."""
    return [to_attempt_view(attempt) for attempt in queries.list_attempts(run_id, ctx=ctx)]


@router.get("/runs/{run_id}/metrics")
def list_metrics(run_id: str, ctx: ContextDep, key: str | None = None) -> list[MetricView]:
    """Metric values by key and step."""
    points = queries.list_metric_points(run_id, key=key, ctx=ctx)
    return [to_metric_view(point) for point in points]


@router.get("/runs/{run_id}/loss-budget")
def show_budget(run_id: str, ctx: ContextDep) -> LossSharesView:
    """What each term of the loss does: its share of the gradient, and which way it pulls."""
    return to_loss_shares_view(queries.get_loss_shares(run_id, ctx=ctx))


@router.post("/runs/{run_id}:cancel")
def cancel_run(run_id: str, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Have a run end: a queued one at once, an active one at its worker's next word."""
    run = actions.cancel_run(run_id, caller=caller, ctx=ctx)
    return _view(run, ctx=ctx)


@router.post("/runs/{run_id}:pause")
def pause_run(run_id: str, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Have a run leave what it takes, with a checkpoint, until it is resumed."""
    run = actions.pause_run(run_id, caller=caller, ctx=ctx)
    return _view(run, ctx=ctx)


@router.post("/runs/{run_id}:resume")
def resume_run(run_id: str, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Queue a paused run again; it goes on from its last checkpoint."""
    run = actions.resume_run(run_id, caller=caller, ctx=ctx)
    return _view(run, ctx=ctx)


@router.post("/runs/{run_id}:retry")
def retry_run(run_id: str, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Queue a failed or cancelled run again, from its last checkpoint, with a fresh budget."""
    run = actions.retry_run(run_id, caller=caller, ctx=ctx)
    return _view(run, ctx=ctx)


@router.post("/runs/{run_id}:prioritize")
def prioritize_run(
    run_id: str, body: PriorityRequest, ctx: ContextDep, caller: CallerDep
) -> RunView:
    """Give a run another place in the queue."""
    run = actions.set_priority(run_id, body.priority, caller=caller, ctx=ctx)
    return _view(run, ctx=ctx)


@router.post("/runs/{run_id}:repeat")
def repeat_run(
    run_id: str, body: RepeatRequest, response: Response, ctx: ContextDep, caller: CallerDep
) -> RepeatView:
    """Launch what is missing so that a distilled run and its baseline are trained with so many
    seeds. Its verdict then rests on all of them. Asked again, it launches nothing new."""
    pairs = repeat.repeat_run(run_id, seeds=body.seeds, pack=body.pack, caller=caller, ctx=ctx)
    if any(pair.is_new for pair in pairs):
        response.status_code = status.HTTP_201_CREATED
    return to_repeat_view(run_id, pairs)


def _view(run: Run, *, ctx: Context) -> RunView:
    compared = get_comparisons([run], ctx=ctx)
    return to_run_view(run, mlflow_url=ctx.mlflow_public_url, comparison=compared.get(run.id))


def _request(body: RunRequest) -> plan.LaunchRun:
    return plan.LaunchRun(
        preset=body.preset,
        changes=body.changes,
        spec=body.spec,
        name=body.name,
        project=body.project,
        priority=body.priority,
        baseline=body.baseline,
        pack=body.pack,
        digest=idempotency.request_digest(_as_older_versions_wrote_it(body).encode()),
    )


def _as_older_versions_wrote_it(body: RunRequest) -> str:
    """A request that leaves newer fields at their defaults has the digest that it always had."""
    newer = {"baseline": "auto", "pack": False}
    at_default = {name for name, value in newer.items() if getattr(body, name) == value}
    return body.model_dump_json(exclude=at_default or None)
