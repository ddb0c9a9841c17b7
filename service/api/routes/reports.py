"""Reports on whether distillation helped, and the noise between seeds."""

from typing import Annotated, Any, Final

from fastapi import Query, Response, status

from service.api.deps import CallerDep, ContextDep
from service.api.responses import describe_launch
from service.api.routers import create_router
from service.api.schemas.run_details import NoiseView
from service.api.schemas.runs import ReportQuery, RunView
from service.api.views import to_noise_view, to_run_view
from service.domain.vocabulary import ReportFormat
from service.usecases import reports
from service.usecases.autopilots.report import render_autopilot_report
from service.usecases.baselines import noise
from service.usecases.runs.queries import add_details

router = create_router(tag="reports")

REPORT_MEDIA_TYPES: Final[dict[ReportFormat, str]] = {
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
}
REPORT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {media_type.partition(";")[0]: {} for media_type in REPORT_MEDIA_TYPES.values()}
    }
}


@router.get(
    "/runs/{run_id}/report",
    response_class=Response,
    responses=REPORT_RESPONSES,
)
def show_report(run_id: str, ctx: ContextDep, query: Annotated[ReportQuery, Query()]) -> Response:
    """The newest report of a run, as HTML, Markdown or JSON."""
    content = reports.read_report_file(run_id, query.format, ctx=ctx)
    return Response(content, media_type=REPORT_MEDIA_TYPES[query.format])


@router.post("/runs/{run_id}:report", status_code=status.HTTP_201_CREATED)
def make_report(run_id: str, response: Response, ctx: ContextDep, caller: CallerDep) -> RunView:
    """Launch a report job for a run that succeeded; returns the job's run."""
    run, is_new = reports.request_report(run_id, caller=caller, ctx=ctx)
    describe_launch(response, f"/v1/runs/{run.id}", is_new=is_new)
    return to_run_view(add_details(run, ctx=ctx), mlflow=ctx.mlflow_pages)


@router.get(
    "/autopilots/{autopilot_id}/report", response_class=Response, responses=REPORT_RESPONSES
)
def show_autopilot_report(
    autopilot_id: str, ctx: ContextDep, query: Annotated[ReportQuery, Query()]
) -> Response:
    """The report of an autopilot as of now, in any phase, as HTML, Markdown or JSON."""
    content = render_autopilot_report(autopilot_id, query.format, ctx=ctx)
    return Response(content, media_type=REPORT_MEDIA_TYPES[query.format])


@router.get("/runs/{run_id}/noise")
def show_noise(run_id: str, ctx: ContextDep) -> NoiseView:
    """How much mAP varies between runs like this one that differ in their seed alone."""
    return to_noise_view(noise.get_run_noise(run_id, ctx=ctx))
