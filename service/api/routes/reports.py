"""Did it help: reports about runs, and how much seeds alone matter."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response, status

from service.api.deps import CallerDep, WorldDep
from service.api.schemas.runs import NoiseView, ReportQuery, RunView
from service.api.views import view_of_noise, view_of_run
from service.domain.repositories.baselines import ReportFormat
from service.usecases import reports
from service.usecases.baselines import noise

router = APIRouter(prefix="/v1", tags=["reports"])

REPORT_TYPES: Final[dict[ReportFormat, str]] = {
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
}
REPORT_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {kind.partition(";")[0]: {} for kind in REPORT_TYPES.values()}}
}


@router.get(
    "/runs/{run_id}/report",
    response_class=Response,
    responses=REPORT_ANSWERS,
)
def show_report(run_id: str, world: WorldDep, query: Annotated[ReportQuery, Query()]) -> Response:
    """The newest report of a run, as a page, as text or for programs."""
    content = reports.report_file(run_id, query.format, world=world)
    return Response(content, media_type=REPORT_TYPES[query.format])


@router.post("/runs/{run_id}:report", status_code=status.HTTP_201_CREATED)
def make_report(run_id: str, response: Response, world: WorldDep, caller: CallerDep) -> RunView:
    """Have a report made of a run that succeeded; the answer is the run that makes it."""
    run, is_new = reports.make_report(run_id, caller=caller, world=world)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return view_of_run(run, mlflow_url=world.mlflow_page)


@router.get("/runs/{run_id}/noise")
def show_noise(run_id: str, world: WorldDep) -> NoiseView:
    """By how much mAP differs between runs like this one that differ in their seed alone."""
    return view_of_noise(noise.noise_of_run(run_id, world=world))
