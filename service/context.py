"""Builds the context of the use cases from the settings, also for commands without the API."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path

import structlog

from configs.addresses import remove_credentials
from service.adapters.clock import SystemClock
from service.adapters.disposal import LocalDisposal
from service.adapters.files import LocalFiles
from service.adapters.home_permissions import secure_home
from service.adapters.log_store import LocalLogStore
from service.adapters.mlflow import MlflowTracker
from service.adapters.ray_jobs import RayJobs
from service.adapters.secret_key import load_or_create_key
from service.adapters.worker_files import LocalWorkerFiles, has_trainer
from service.domain.access import Token, token_from_text
from service.domain.estimates import Prices
from service.domain.metrics.counters import NULL_COUNTERS, Counters
from service.domain.ports import Clock, Cluster, Tracker, WorkerFiles
from service.domain.vocabulary import Role
from service.settings import Settings
from service.store.database import Database
from service.usecases.context import Context, Policy

log = structlog.get_logger(__name__)


@contextmanager
def open_context(settings: Settings) -> Iterator[Context]:
    """A context for commands that work without a running service; migrates the database first."""
    ctx, resources = build_context(settings)
    with resources:
        ctx.store.migrate()
        yield ctx


def build_context(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    tracker: Tracker | None = None,
    clock: Clock | None = None,
    counters: Counters = NULL_COUNTERS,
) -> tuple[Context, ExitStack]:
    """The context, and a stack that closes its connections."""
    _secure_home(settings.home)
    database = Database(settings.sqlalchemy_url)
    clock = clock or SystemClock()
    resources = ExitStack()
    resources.callback(database.close)
    ctx = Context(
        store=database,
        cluster=cluster or resources.enter_context(closing(_ray_jobs(settings))),
        tracker=tracker or resources.enter_context(closing(MlflowTracker(settings.mlflow_url))),
        files=LocalFiles(
            settings.runs_dir, sweeps_dir=settings.sweeps_dir, roots=settings.registry_roots
        ),
        logs=LocalLogStore(settings.logs_dir),
        disposal=LocalDisposal(runs_dir=settings.runs_dir, logs_dir=settings.logs_dir),
        clock=clock,
        policy=_build_policy(settings),
        worker_files=None if cluster else _build_worker_files(settings),
        service_url=settings.service_url,
        mlflow_url=settings.mlflow_url,
        mlflow_public_url=settings.mlflow_public_url or remove_credentials(settings.mlflow_url),
        signing_key=load_or_create_key(settings.signing_key_file)
        if settings.auth == "tokens"
        else None,
        static_tokens=_build_static_tokens(settings, at=clock.now()),
        counters=counters,
        owner=f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}",
    )
    return ctx, resources


def _secure_home(home: Path) -> None:
    """As `secure_home`; a service starts without its folders, and waits for them."""
    try:
        changed = secure_home(home)
    except OSError as error:
        log.warning("home.not_secured", path=str(home), reason=str(error))
        return
    if changed:
        log.info("home.rights_removed", paths=[str(path) for path in changed])


def _ray_jobs(settings: Settings) -> RayJobs:
    token = settings.ray_token.get_secret_value() if settings.ray_token else None
    return RayJobs(settings.ray_url, token_file=settings.ray_token_path, token=token)


def _build_static_tokens(settings: Settings, *, at: datetime) -> dict[str, Token]:
    """The tokens that the settings define, by id."""
    secrets_by_role = {Role.ADMIN: settings.admin_token, Role.VIEWER: settings.viewer_token}
    tokens = [
        token_from_text(text.get_secret_value(), name=f"the {role} token", role=role, at=at)
        for role, text in secrets_by_role.items()
        if text is not None
    ]
    return {token.id: token for token in tokens}


def _build_worker_files(settings: Settings) -> WorkerFiles | None:
    """Look at workers' files where Ray is on this machine and this environment can train."""
    return LocalWorkerFiles() if settings.has_local_ray and has_trainer() else None


def _build_policy(settings: Settings) -> Policy:
    return Policy(
        max_attempts=settings.max_attempts,
        stall_timeout_s=settings.stall_timeout_s,
        lost_timeout_s=settings.lost_timeout_s,
        stop_grace_s=settings.stop_grace_s,
        backfill_timeout_s=settings.backfill_timeout_s,
        prices=Prices(settings.gpu_hour_price, settings.cpu_hour_price),
        retention=settings.retention_policy,
        autoscales_to=tuple(
            (shape.cpus, shape.gpus) for shape in settings.autoscales_to for _ in range(shape.count)
        ),
    )
