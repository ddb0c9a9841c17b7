"""Launch, plan, list and show runs, and what people want of them; attempts and metrics."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response, status

from service.api.deps import CallerDep, WorldDep
from service.api.schemas.runs import (
    AttemptView,
    BudgetView,
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
    view_of_attempt,
    view_of_budget,
    view_of_plan,
    view_of_point,
    view_of_repeat,
    view_of_run,
)
from service.domain.repositories.runs import RunFilter
from service.domain.runs import Run
from service.usecases import idempotency
from service.usecases.baselines import repeat
from service.usecases.baselines.comparisons import comparisons_of
from service.usecases.context import World
from service.usecases.runs import actions, launch, plan, queries

router = APIRouter(prefix="/v1", tags=["runs"])

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200)]


def page_of_runs(found: list[Run], *, limit: int, world: World) -> RunPage:
    """A page, from one run more than it shows."""
    shown = found[:limit]
    compared = comparisons_of(shown, world=world)
    items = [
        view_of_run(run, mlflow_url=world.mlflow_page, comparison=compared.get(run.id))
        for run in shown
    ]
    return RunPage(items=items, next_cursor=items[-1].id if len(found) > limit else None)


@router.post("/runs", status_code=status.HTTP_201_CREATED)
def launch_run(
    body: RunRequest,
    response: Response,
    world: WorldDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Launch a run from a preset with changes, or from a whole spec."""
    run, is_new = launch.launch_run(_request(body), key=idempotency_key, caller=caller, world=world)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return _view(run, world=world)


@router.post("/runs:plan")
def plan_run(body: RunRequest, world: WorldDep, caller: CallerDep) -> PlanView:
    """The dry run: the resolved spec and everything that stands against it."""
    return view_of_plan(plan.plan_run(_request(body), caller=caller, world=world))


@router.get("/runs")
def list_runs(world: WorldDep, caller: CallerDep, query: Annotated[RunQuery, Query()]) -> RunPage:
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
    found = queries.list_runs(which, caller=caller, world=world)
    return page_of_runs(found, limit=query.limit, world=world)


@router.get("/runs/{run_id}")
def show_run(run_id: str, world: WorldDep) -> RunView:
    """One run."""
    return _view(queries.show_run(run_id, world=world), world=world)


@router.get("/runs/{run_id}/attempts")
def list_attempts(run_id: str, world: WorldDep) -> list[AttemptView]:
    """The tries of a run: where each ran and how it ended."""
    return [view_of_attempt(attempt) for attempt in queries.attempts_of_run(run_id, world=world)]


@router.get("/runs/{run_id}/metrics")
def list_metrics(run_id: str, world: WorldDep, key: str | None = None) -> list[MetricView]:
    """Metric values by key and step."""
    points = queries.metrics_of_run(run_id, key=key, world=world)
    return [view_of_point(point) for point in points]


@router.get("/runs/{run_id}/loss-budget")
def show_budget(run_id: str, world: WorldDep) -> BudgetView:
    """What each term of the loss does: its share of the gradient, and which way it pulls."""
    return view_of_budget(queries.budget_of_run(run_id, world=world))


@router.post("/runs/{run_id}:cancel")
def cancel_run(run_id: str, world: WorldDep, caller: CallerDep) -> RunView:
    """Have a run end: a queued one at once, an active one at its worker's next word."""
    run = actions.cancel_run(run_id, caller=caller, world=world)
    return _view(run, world=world)


@router.post("/runs/{run_id}:pause")
def pause_run(run_id: str, world: WorldDep, caller: CallerDep) -> RunView:
    """Have a run leave what it takes, with a checkpoint, until it is resumed."""
    run = actions.pause_run(run_id, caller=caller, world=world)
    return _view(run, world=world)


@router.post("/runs/{run_id}:resume")
def resume_run(run_id: str, world: WorldDep, caller: CallerDep) -> RunView:
    """Queue a paused run again; it goes on from its last checkpoint."""
    run = actions.resume_run(run_id, caller=caller, world=world)
    return _view(run, world=world)


@router.post("/runs/{run_id}:retry")
def retry_run(run_id: str, world: WorldDep, caller: CallerDep) -> RunView:
    """Queue a failed or cancelled run again, from its last checkpoint, with a fresh budget."""
    run = actions.retry_run(run_id, caller=caller, world=world)
    return _view(run, world=world)


@router.post("/runs/{run_id}:prioritize")
def prioritize_run(
    run_id: str, body: PriorityRequest, world: WorldDep, caller: CallerDep
) -> RunView:
    """Give a run another place in the queue."""
    run = actions.set_priority(run_id, body.priority, caller=caller, world=world)
    return _view(run, world=world)


@router.post("/runs/{run_id}:repeat")
def repeat_run(
    run_id: str, body: RepeatRequest, response: Response, world: WorldDep, caller: CallerDep
) -> RepeatView:
    """Launch what is missing so that a distilled run and its baseline are trained with so many
    seeds. Its verdict then rests on all of them. Asked again, it launches nothing new."""
    pairs = repeat.repeat_run(run_id, seeds=body.seeds, pack=body.pack, caller=caller, world=world)
    if any(pair.is_new for pair in pairs):
        response.status_code = status.HTTP_201_CREATED
    return view_of_repeat(run_id, pairs)


def _view(run: Run, *, world: World) -> RunView:
    compared = comparisons_of([run], world=world)
    return view_of_run(run, mlflow_url=world.mlflow_page, comparison=compared.get(run.id))


def _request(body: RunRequest) -> plan.Request:
    return plan.Request(
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
