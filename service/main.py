"""The composition root: builds the application and its loops from the settings."""

import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from importlib.metadata import version

import structlog
from fastapi import FastAPI

from configs.http_access import complete_environment
from service.adapters.home_permissions import home_umask
from service.adapters.prometheus import PrometheusMetrics
from service.api import errors
from service.api.middleware.audit import AuditMiddleware
from service.api.middleware.auth import AuthMiddleware, parse_rate_limits
from service.api.middleware.client_address import ClientAddressMiddleware
from service.api.middleware.cross_site import CrossSiteMiddleware
from service.api.middleware.errors import ErrorMiddleware
from service.api.middleware.limits import BodySizeLimitMiddleware, TrustedHostMiddleware
from service.api.middleware.request_id import OnResponse, RequestIdMiddleware
from service.api.middleware.security_headers import SecurityHeadersMiddleware
from service.api.openapi import complete_schema
from service.api.routes import (
    access,
    autopilots,
    docs,
    health,
    jobs,
    methods,
    registry,
    reports,
    runs,
    streams,
    sweeps,
    workers,
)
from service.api.streaming.registry import create_streams
from service.context import build_context
from service.domain.errors.systems import DatabaseUnreachable
from service.domain.metrics.series import Series
from service.domain.ports import Clock, Cluster, Tracker
from service.http_server import run_server
from service.log import configure_logging
from service.loops.autopilots import AutopilotLoop
from service.loops.base import Loop, TurnContext
from service.loops.comparisons import compare_baselines
from service.loops.reconcile import Reconciler
from service.loops.retention import RetentionLoop
from service.loops.submit import Submitter
from service.loops.sweeps import SweepReconciler
from service.loops.tracker_sync import TrackerSync
from service.settings import Settings
from service.store.database import Database
from service.tracing import Tracing
from service.usecases.context import Context
from service.usecases.health import HealthMonitor
from service.usecases.metrics import MetricsCollector

_VERSION = version("tandem-distill")
_ROUTE_MODULES = (
    *(runs, jobs, sweeps, autopilots, reports, streams, registry, methods, access),
    *(workers, health, docs),
)
_STOP_LOOPS_TIMEOUT_S = 15.0

log = structlog.get_logger(__name__)


def create_app(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    tracker: Tracker | None = None,
    clock: Clock | None = None,
    with_loops: bool = True,
) -> FastAPI:
    """The API with its loops; tests and simulations may pass their own ports."""
    configure_logging(settings.log_format, settings.log_level)
    metrics = PrometheusMetrics(_VERSION)
    ctx, resources = build_context(
        settings, cluster=cluster, tracker=tracker, clock=clock, counters=metrics
    )
    tracing = _build_tracing(settings)
    turn_context = (
        metrics.observe_turn if tracing is None else tracing.trace_turns(metrics.observe_turn)
    )
    loops = make_loops(ctx, interval_s=settings.poll_interval_s, turn_context=turn_context)
    loops = loops if with_loops else []
    health_monitor = HealthMonitor(ctx, lambda: {loop.name: loop.age_s for loop in loops})
    metrics.register_series(_empty_without_database(MetricsCollector(ctx).series))
    metrics.register_series(health_monitor.series)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        ctx.store.migrate()
        for loop in loops:
            loop.start()
        log.info("service.started", url=settings.url, home=str(settings.home))
        yield
        for loop in loops:
            loop.stop(timeout_s=_STOP_LOOPS_TIMEOUT_S)
        _release_leases(ctx)
        health_monitor.close()
        resources.close()
        if tracing is not None:
            tracing.close()
        log.info("service.stopped")

    app = _create_api(lifespan)
    app.state.ctx, app.state.scrape, app.state.health = ctx, metrics.render, health_monitor
    app.state.streams = create_streams(ctx)
    _add_middlewares(app, ctx, settings, on_response=metrics.observe_request)
    if tracing is not None:
        app.add_middleware(tracing.trace_requests)
    return app


def _create_api(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """All routes, without middlewares."""
    app = FastAPI(
        title="Tandem",
        summary="Launch, follow and compare teacher-student distillation of dense detectors.",
        version=_VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        routes=[route for module in _ROUTE_MODULES for route in module.router.routes],
    )
    errors.install_error_handlers(app)
    complete_schema(app)
    return app


def _build_tracing(settings: Settings) -> Tracing | None:
    endpoint = settings.otel_endpoint
    if endpoint is None:
        return None
    complete_environment(os.environ, endpoint)  # of the exporter, which uses requests
    return Tracing(endpoint, version=_VERSION)


def _add_middlewares(
    app: FastAPI, ctx: Context, settings: Settings, *, on_response: OnResponse
) -> None:
    """Add the middlewares; a request passes them in reverse order, the last added one first."""
    limits = parse_rate_limits(settings.rate_limit, settings.refusal_limit)
    app.add_middleware(BodySizeLimitMiddleware)
    app.add_middleware(AuthMiddleware, ctx=ctx, limits=limits)
    app.add_middleware(AuditMiddleware, ctx=ctx)
    if settings.auth == "off":
        app.add_middleware(CrossSiteMiddleware)
    app.add_middleware(TrustedHostMiddleware, hosts=settings.allowed_hosts)
    app.add_middleware(ErrorMiddleware)
    app.add_middleware(
        SecurityHeadersMiddleware, is_https=settings.service_url.startswith("https:")
    )
    app.add_middleware(RequestIdMiddleware, on_response=on_response)
    if settings.trusted_proxies:
        app.add_middleware(ClientAddressMiddleware, proxies=settings.trusted_proxies)


def _empty_without_database(series: Callable[[], list[Series]]) -> Callable[[], list[Series]]:
    """Make `series` return an empty list while the database is unreachable, so that a scrape
    still returns the metrics of this process."""

    def get_series() -> list[Series]:
        try:
            return series()
        except DatabaseUnreachable:
            return []

    return get_series


def _release_leases(ctx: Context) -> None:
    """Release all leases, so that other service processes can take over at once."""
    with suppress(DatabaseUnreachable), ctx.store.transaction() as uow:
        uow.runs.release(ctx.owner)
        uow.leader_leases.release(ctx.owner)


def make_loops(
    ctx: Context, *, interval_s: float, turn_context: TurnContext = lambda _: nullcontext()
) -> list[Loop]:
    """All background loops, not yet started."""
    submitter = Submitter(ctx)
    steps: dict[str, Callable[[], None]] = {
        "submit": submitter.run_once,
        "reconcile": Reconciler(ctx).run_once,
        "tracker_sync": TrackerSync(ctx).run_once,
        "compare": partial(compare_baselines, ctx),
        "sweeps": SweepReconciler(ctx).run_once,
        "autopilots": AutopilotLoop(ctx).run_once,
        "retention": RetentionLoop(ctx).run_once,
    }
    return [
        Loop(
            name,
            step,
            interval_s=interval_s,
            turn_context=turn_context,
            wake=ctx.queue_changed if name == "submit" else None,
            can_be_woken=submitter.can_start_more,
        )
        for name, step in steps.items()
    ]


def serve(settings: Settings) -> None:
    """Run the service until a signal stops it; database errors are raised before it starts."""
    os.umask(home_umask(settings.home))
    Database(settings.sqlalchemy_url).migrate()
    app = create_app(settings)
    # What is loaded now stays: no collection has to look at it while requests wait.
    gc.collect()
    gc.freeze()
    run_server(
        app,
        host=settings.host,
        port=settings.port,
        max_connections=settings.max_connections,
    )
