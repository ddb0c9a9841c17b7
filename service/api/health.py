"""Is it alive, is it ready, and how much is going on."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from service.api.deps import WorldDep
from service.api.schemas import HealthView
from service.domain.errors import Unreachable
from service.domain.runs import DEFAULT_PROJECT
from service.domain.states import RunState
from service.usecases.world import World

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
def ready(world: WorldDep) -> HealthView:
    """The database answers; whether Ray and MLflow do is said, and runs wait if they do not."""
    counts = _counts(world)
    ray, mlflow = _ray_answers(world), _mlflow_answers(world)
    return HealthView(
        status="ready" if ray and mlflow else "degraded",
        ray=ray,
        mlflow=mlflow,
        runs_by_state=counts,
    )


@router.get("/metrics", include_in_schema=False)
def metrics(world: WorldDep) -> Response:
    """For Prometheus."""
    registry = CollectorRegistry()
    gauge = Gauge("tandem_runs", "Runs by state.", ["state"], registry=registry)
    for state, count in _counts(world).items():
        gauge.labels(state=state).set(count)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _counts(world: World) -> dict[RunState, int]:
    with world.store.begin() as unit:
        return unit.runs.count_by_state()


def _ray_answers(world: World) -> bool:
    try:
        world.cluster.nodes()
    except Unreachable:
        return False
    return True


def _mlflow_answers(world: World) -> bool:
    try:
        world.tracker.find("none", project=DEFAULT_PROJECT)
    except Unreachable:
        return False
    return True
