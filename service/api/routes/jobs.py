"""Evaluations and exports: runs that do not train. Use /v1/runs for their logs and to cancel."""

from typing import Annotated

from fastapi import Query, Response, status

from configs.spec.base import Task
from service.api.deps import CallerDep, ContextDep
from service.api.responses import describe_launch
from service.api.routers import create_router
from service.api.routes.runs import IdempotencyKey, make_run_page
from service.api.schemas.base import PageQuery
from service.api.schemas.run_lists import RunPage
from service.api.schemas.runs import EvaluationRequest, ExportRequest, RunView
from service.api.views import to_run_view
from service.domain.access import Caller
from service.domain.errors.requests import RunNotFound
from service.domain.repositories.runs import RunFilter
from service.usecases import idempotency
from service.usecases.context import Context
from service.usecases.runs import launch, plan, queries

router = create_router(tag="jobs")


@router.post("/evaluations", status_code=status.HTTP_201_CREATED)
def launch_evaluation(
    body: EvaluationRequest,
    response: Response,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Evaluate a detector on a dataset: COCO metrics, PR curves, images per second, latency."""
    return _launch(body, "evaluate", response, key=idempotency_key, caller=caller, ctx=ctx)


@router.get("/evaluations")
def list_evaluations(
    ctx: ContextDep, caller: CallerDep, query: Annotated[PageQuery, Query()]
) -> RunPage:
    """Evaluations, newest first."""
    return _list_runs("evaluate", query, caller=caller, ctx=ctx)


@router.get("/evaluations/{run_id}")
def show_evaluation(run_id: str, ctx: ContextDep) -> RunView:
    """One evaluation; its metrics are in `latest`."""
    return _get_run(run_id, "evaluate", ctx=ctx)


@router.post("/exports", status_code=status.HTTP_201_CREATED)
def launch_export(
    body: ExportRequest,
    response: Response,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Export a detector as an mmdet checkpoint, an ONNX graph or an MLflow model."""
    return _launch(body, "export", response, key=idempotency_key, caller=caller, ctx=ctx)


@router.get("/exports")
def list_exports(
    ctx: ContextDep, caller: CallerDep, query: Annotated[PageQuery, Query()]
) -> RunPage:
    """Exports, newest first."""
    return _list_runs("export", query, caller=caller, ctx=ctx)


@router.get("/exports/{run_id}")
def show_export(run_id: str, ctx: ContextDep) -> RunView:
    """One export; its files are in MLflow and in the run's folder."""
    return _get_run(run_id, "export", ctx=ctx)


def _launch(
    body: EvaluationRequest | ExportRequest,
    task: Task,
    response: Response,
    *,
    key: str | None,
    caller: Caller,
    ctx: Context,
) -> RunView:
    request = plan.LaunchRun(
        spec=body.model_dump(mode="json", exclude={"name", "project", "priority"}),
        task=task,
        name=body.name,
        project=body.project,
        priority=body.priority,
        digest=idempotency.request_digest(f"{task} {body.model_dump_json()}".encode()),
    )
    run, is_new = launch.launch_run(request, key=key, caller=caller, ctx=ctx)
    describe_launch(response, f"/v1/runs/{run.id}", is_new=is_new)
    return to_run_view(queries.add_details(run, ctx=ctx), mlflow=ctx.mlflow_pages)


def _list_runs(task: Task, query: PageQuery, *, caller: Caller, ctx: Context) -> RunPage:
    run_filter = RunFilter(tasks=(task,), before=query.cursor, limit=query.limit + 1)
    runs = queries.list_runs(run_filter, caller=caller, ctx=ctx)
    return make_run_page(runs, limit=query.limit, ctx=ctx)


def _get_run(run_id: str, task: Task, *, ctx: Context) -> RunView:
    details = queries.get_run_details(run_id, ctx=ctx)
    if details.run.task != task:
        raise RunNotFound(run_id)
    return to_run_view(details, mlflow=ctx.mlflow_pages)
