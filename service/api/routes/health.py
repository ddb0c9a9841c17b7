"""Liveness, readiness and Prometheus metrics."""

from collections.abc import Callable
from typing import Annotated, cast

from fastapi import Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from configs.protocol.names import DEFAULT_PROJECT
from service.api.deps import ContextDep, OptionalCallerDep
from service.api.routers import create_router
from service.api.schemas.health import CheckView, HealthView
from service.domain.access import Caller
from service.domain.errors.systems import DatabaseUnreachable
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.health import HealthMonitor

router = create_router(prefix="", tag="health")

Scrape = Callable[[], bytes]
"""Renders all metrics in Prometheus' text format."""


def _get_health_monitor(request: Request) -> HealthMonitor:
    return cast("HealthMonitor", request.app.state.health)


def _get_scrape(request: Request) -> Scrape:
    return cast("Scrape", request.app.state.scrape)


@router.get("/healthz")
def check_liveness() -> dict[str, str]:
    """Answers as long as the process runs."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": HealthView}}, response_model_exclude_unset=True)
def check_readiness(
    response: Response,
    ctx: ContextDep,
    caller: OptionalCallerDep,
    health: Annotated[HealthMonitor, Depends(_get_health_monitor)],
) -> HealthView:
    """The state of each dependency, and since when; without a token only the overall status.

    503 if the service cannot work: no database, a full disk, a stalled loop. An outage of Ray or
    MLflow only degrades it, because runs wait until they are back.
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
        mlflow_url=ctx.mlflow_pages.runs(DEFAULT_PROJECT),
        checks=[CheckView(**vars(check)) for check in checks],
        runs_by_state=_count_runs(ctx, caller),
    )


@router.get("/metrics", include_in_schema=False)
def show_metrics(scrape: Annotated[Scrape, Depends(_get_scrape)]) -> Response:
    """All metrics, for Prometheus to scrape."""
    return Response(scrape(), media_type=CONTENT_TYPE_LATEST)


def _count_runs(ctx: Context, caller: Caller) -> dict[RunState, int]:
    counts = dict.fromkeys(RunState, 0)
    try:
        with ctx.store.snapshot() as uow:
            run_counts = uow.metrics.count_runs()
    except DatabaseUnreachable:
        return {}
    for (state, project), count in run_counts.items():
        counts[state] += count if caller.can_see(project) else 0
    return counts
