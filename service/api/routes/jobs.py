"""Evaluations and exports: runs that do not train. Logs, events and cancelling are any run's."""

from typing import Annotated

from fastapi import APIRouter, Query, Response, status

from configs.spec.jobs import Task
from service.api.deps import CallerDep, WorldDep
from service.api.routes.runs import IdempotencyKey, page_of_runs
from service.api.schemas.base import PageQuery
from service.api.schemas.runs import EvaluationRequest, ExportRequest, RunPage, RunView
from service.api.views import view_of_run
from service.domain.access import Caller
from service.domain.errors import RunNotFound
from service.domain.repositories.runs import RunFilter
from service.usecases import idempotency
from service.usecases.context import World
from service.usecases.runs import launch, plan, queries

router = APIRouter(prefix="/v1", tags=["jobs"])


@router.post("/evaluations", status_code=status.HTTP_201_CREATED)
def launch_evaluation(
    body: EvaluationRequest,
    response: Response,
    world: WorldDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Measure a detector on a dataset: COCO's numbers, curves, images a second, latency."""
    return _launched(body, "evaluate", response, key=idempotency_key, caller=caller, world=world)


@router.get("/evaluations")
def list_evaluations(
    world: WorldDep, caller: CallerDep, query: Annotated[PageQuery, Query()]
) -> RunPage:
    """Evaluations, newest first."""
    return _page("evaluate", query, caller=caller, world=world)


@router.get("/evaluations/{run_id}")
def show_evaluation(run_id: str, world: WorldDep) -> RunView:
    """One evaluation; its numbers are in `latest`."""
    return _one(run_id, "evaluate", world=world)


@router.post("/exports", status_code=status.HTTP_201_CREATED)
def launch_export(
    body: ExportRequest,
    response: Response,
    world: WorldDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Write a detector as an mmdet checkpoint, an ONNX graph, a model that MLflow serves."""
    return _launched(body, "export", response, key=idempotency_key, caller=caller, world=world)


@router.get("/exports")
def list_exports(
    world: WorldDep, caller: CallerDep, query: Annotated[PageQuery, Query()]
) -> RunPage:
    """Exports, newest first."""
    return _page("export", query, caller=caller, world=world)


@router.get("/exports/{run_id}")
def show_export(run_id: str, world: WorldDep) -> RunView:
    """One export; its files are in MLflow and in the run's folder."""
    return _one(run_id, "export", world=world)


def _launched(
    body: EvaluationRequest | ExportRequest,
    task: Task,
    response: Response,
    *,
    key: str | None,
    caller: Caller,
    world: World,
) -> RunView:
    request = plan.Request(
        spec=body.model_dump(mode="json", exclude={"name", "project", "priority"}),
        task=task,
        name=body.name,
        project=body.project,
        priority=body.priority,
        digest=idempotency.request_digest(f"{task} {body.model_dump_json()}".encode()),
    )
    run, is_new = launch.launch_run(request, key=key, caller=caller, world=world)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return view_of_run(run, mlflow_url=world.mlflow_page)


def _page(task: Task, query: PageQuery, *, caller: Caller, world: World) -> RunPage:
    which = RunFilter(task=task, before=query.cursor, limit=query.limit + 1)
    found = queries.list_runs(which, caller=caller, world=world)
    return page_of_runs(found, limit=query.limit, world=world)


def _one(run_id: str, task: Task, *, world: World) -> RunView:
    run = queries.show_run(run_id, world=world)
    if run.task != task:
        raise RunNotFound(run_id)
    return view_of_run(run, mlflow_url=world.mlflow_page)
