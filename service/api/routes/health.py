"""Is it alive, is it ready, and how much is going on."""

from collections.abc import Callable
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.deps import ContextDep, OptionalCallerDep
from service.api.schemas.health import CheckView, HealthView
from service.domain.access import Caller
from service.domain.errors import DatabaseUnreachable
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.health import HealthMonitor

router = APIRouter(tags=["health"])

Scrape = Callable[[], bytes]
"""Everything that is counted, as Prometheus reads it."""


def _health(request: Request) -> HealthMonitor:
    return cast("HealthMonitor", request.app.state.health)


def _scrape(request: Request) -> Scrape:
    return cast("Scrape", request.app.state.scrape)


@router.get("/healthz")
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": HealthView}}, response_model_exclude_unset=True)
def ready(
    response: Response,
    ctx: ContextDep,
    caller: OptionalCallerDep,
    health: Annotated[HealthMonitor, Depends(_health)],
) -> HealthView:
    """Each thing that is needed, and since when it is as it is; to strangers the status only.

    503 if nothing can go on: no database, no room, a loop that stands still. While Ray or MLflow is
    away runs wait, and that is no reason to take the service down.
    """
    checks = health.checks()
    status = health.readiness()
    if status == "unready":
        response.status_code = 503
    if caller is None:
        return HealthView(status=status)
    ok = {check.name: check.ok for check in checks}
    return HealthView(
        status=status,
        ray=ok["ray"],
        mlflow=ok["mlflow"],
        checks=[CheckView(**vars(check)) for check in checks],
        runs_by_state=_counts(ctx, caller),
    )


@router.get("/metrics", include_in_schema=False)
def metrics(scrape: Annotated[Scrape, Depends(_scrape)]) -> Response:
    """For Prometheus."""
    return Response(scrape(), media_type=CONTENT_TYPE_LATEST)


def _counts(ctx: Context, caller: Caller) -> dict[RunState, int]:
    counts = dict.fromkeys(RunState, 0)
    try:
        with ctx.store.transaction() as uow:
            found = uow.metrics.count_runs()
    except DatabaseUnreachable:
        return {}
    for (state, project), count in found.items():
        counts[state] += count if caller.can_see(project) else 0
    return counts
