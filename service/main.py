"""The composition root: settings in, a running control plane out."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from datetime import datetime
from functools import partial
from importlib.metadata import version

import structlog
import uvicorn
from fastapi import FastAPI

from service.adapters.clock import SystemClock
from service.adapters.files import LocalFiles
from service.adapters.log_store import LocalLogStore
from service.adapters.mlflow import Mlflow
from service.adapters.prometheus import Meters
from service.adapters.ray_jobs import RayJobs
from service.adapters.secret_key import key_in
from service.api import errors
from service.api.middleware.audit import Auditing
from service.api.middleware.auth import Gate, limits_from
from service.api.middleware.errors import Faults
from service.api.middleware.limits import BodyLimit, HostCheck
from service.api.middleware.request_id import Answered, RequestIds
from service.api.middleware.security_headers import SecurityHeaders
from service.api.openapi import describe_problems
from service.api.routes import (
    access,
    docs,
    health,
    jobs,
    registry,
    reports,
    runs,
    streams,
    sweeps,
    workers,
)
from service.domain.access import Role, Token, token_from_text
from service.domain.errors import StoreUnreachable
from service.domain.estimates import Prices
from service.domain.metrics.counters import NO_METER, Meter
from service.domain.metrics.series import Series
from service.domain.ports import Clock, Cluster, Tracker
from service.log import configure_logging
from service.loops.base import Loop, Watch
from service.loops.comparisons import compare_twins
from service.loops.reconcile import Reconciler
from service.loops.submit import submit_queued
from service.loops.sweeps import SweepKeeper
from service.loops.tracker_sync import settle_finished
from service.settings import Settings
from service.store.database import Database
from service.tracing import Tracing
from service.usecases.context import Rules, World
from service.usecases.health import Health
from service.usecases.metrics import Figures

_VERSION = version("tandem-distill")
_ENDPOINTS = (runs, jobs, sweeps, reports, streams, registry, access, workers, health, docs)
_STOP_LOOPS_S = 15.0
_SHUTDOWN_S = 10

log = structlog.get_logger(__name__)


def create_app(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    tracker: Tracker | None = None,
    clock: Clock | None = None,
    with_loops: bool = True,
) -> FastAPI:
    """The API with its loops; the outside systems may be given, for tests and simulations."""
    configure_logging(settings.log_format, settings.log_level)
    meters = Meters(_VERSION)
    world, opened = _make_world(
        settings, cluster=cluster, tracker=tracker, clock=clock, meter=meters
    )
    tracing = _tracing(settings)
    watch = meters.turn if tracing is None else tracing.around_turns(meters.turn)
    loops = make_loops(world, interval_s=settings.poll_interval_s, watch=watch)
    loops = loops if with_loops else []
    answers = Health(world, lambda: {loop.name: loop.age_s for loop in loops})
    meters.add_series(_if_there(Figures(world).series))
    meters.add_series(answers.series)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        world.store.migrate()
        for loop in loops:
            loop.start()
        log.info("service.started", url=settings.url, home=str(settings.home))
        yield
        for loop in loops:
            loop.stop(timeout_s=_STOP_LOOPS_S)
        _give_back(world)
        answers.close()
        opened.close()
        if tracing is not None:
            tracing.close()
        log.info("service.stopped")

    app = FastAPI(
        title="Tandem",
        summary="Launch, follow and compare teacher-student distillation of dense detectors.",
        version=_VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.world, app.state.scrape, app.state.health = world, meters.text, answers
    errors.install(app)
    for module in _ENDPOINTS:
        app.include_router(module.router)
    describe_problems(app)
    _guard(app, world, settings, answered=meters.answered)
    if tracing is not None:
        app.add_middleware(tracing.around_requests)
    return app


def _tracing(settings: Settings) -> Tracing | None:
    endpoint = settings.otel_endpoint
    return None if endpoint is None else Tracing(endpoint, version=_VERSION)


def _guard(app: FastAPI, world: World, settings: Settings, *, answered: Answered) -> None:
    """What a request passes on its way in; the last one that is added is the first."""
    limits = limits_from(settings.rate_limit, settings.refusal_limit)
    app.add_middleware(BodyLimit)
    app.add_middleware(Gate, world=world, limits=limits)
    app.add_middleware(Auditing, world=world)
    app.add_middleware(HostCheck, hosts=settings.host_names)
    app.add_middleware(Faults)
    app.add_middleware(SecurityHeaders, is_https=settings.report_url.startswith("https:"))
    app.add_middleware(RequestIds, answered=answered)


@contextmanager
def open_world(settings: Settings) -> Iterator[World]:
    """What usecases act on, for a command that needs no service: the schema is the newest."""
    world, opened = _make_world(settings)
    with opened:
        world.store.migrate()
        yield world


def _make_world(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    tracker: Tracker | None = None,
    clock: Clock | None = None,
    meter: Meter = NO_METER,
) -> tuple[World, ExitStack]:
    """The world, and what closes its connections."""
    database = Database(settings.database)
    clock = clock or SystemClock()
    opened = ExitStack()
    opened.callback(database.close)
    world = World(
        store=database,
        cluster=cluster or opened.enter_context(closing(_ray_jobs(settings))),
        tracker=tracker or opened.enter_context(closing(Mlflow(settings.mlflow_url))),
        files=LocalFiles(settings.runs_dir, sweeps_dir=settings.sweeps_dir, roots=settings.roots),
        logs=LocalLogStore(settings.logs_dir),
        clock=clock,
        rules=_rules(settings),
        report_url=settings.report_url,
        mlflow_url=settings.mlflow_url,
        mlflow_page=settings.mlflow_public_url or settings.mlflow_url,
        key=key_in(settings.key_file) if settings.auth == "tokens" else None,
        given_tokens=_given_tokens(settings, at=clock.now()),
        meter=meter,
        owner=f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}",
    )
    return world, opened


def _ray_jobs(settings: Settings) -> RayJobs:
    token = settings.ray_token.get_secret_value() if settings.ray_token else None
    return RayJobs(settings.ray_url, token_file=settings.ray_token_path, token=token)


def _given_tokens(settings: Settings, *, at: datetime) -> dict[str, Token]:
    """Access that the environment gives, by id."""
    given = {Role.ADMIN: settings.admin_token, Role.VIEWER: settings.viewer_token}
    tokens = [
        token_from_text(text.get_secret_value(), name=f"the {role} token", role=role, at=at)
        for role, text in given.items()
        if text is not None
    ]
    return {token.id: token for token in tokens}


def _rules(settings: Settings) -> Rules:
    return Rules(
        max_attempts=settings.max_attempts,
        stall_after_s=settings.stall_after_s,
        lost_after_s=settings.lost_after_s,
        stop_grace_s=settings.stop_grace_s,
        patience_s=settings.patience_s,
        prices=Prices(settings.gpu_hour_price, settings.cpu_hour_price),
        autoscales_to=tuple(
            (shape.cpus, shape.gpus) for shape in settings.autoscales_to for _ in range(shape.count)
        ),
    )


def _if_there(series: Callable[[], list[Series]]) -> Callable[[], list[Series]]:
    """Nothing while the database is away: what is counted here is shown all the same."""

    def asked() -> list[Series]:
        try:
            return series()
        except StoreUnreachable:
            return []

    return asked


def _give_back(world: World) -> None:
    """Others need not wait until our leases are over."""
    with suppress(StoreUnreachable), world.store.begin() as unit:
        unit.runs.release(world.owner)
        unit.duties.release(world.owner)


def make_loops(
    world: World, *, interval_s: float, watch: Watch = lambda _: nullcontext()
) -> list[Loop]:
    """What goes on without requests."""
    steps: dict[str, Callable[[], None]] = {
        "submit": partial(submit_queued, world),
        "reconcile": Reconciler(world).turn,
        "settle": partial(settle_finished, world),
        "compare": partial(compare_twins, world),
        "sweeps": SweepKeeper(world).turn,
    }
    return [Loop(name, step, interval_s=interval_s, watch=watch) for name, step in steps.items()]


def serve(settings: Settings) -> None:
    """Run the service until it is told to stop; what is wrong with the database is said first."""
    Database(settings.database).migrate()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
