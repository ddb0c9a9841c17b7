"""Collects metrics of runs, sweeps, the queue and used resources from the database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

from service.domain.metrics.runs import ActiveRun, run_series
from service.domain.metrics.series import Series, totals_by_project
from service.domain.metrics.sweeps import sweep_series
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.sweeps.cache import SweepLogCache

_STALE_HEARTBEAT_S = 60.0


@dataclass
class MetricsCollector:
    """Collects all metrics at a scrape; caches the logs of sweeps, which only grow."""

    ctx: Context
    _sweep_logs: SweepLogCache = field(default_factory=SweepLogCache)
    _lock: Lock = field(default_factory=Lock)

    def series(self) -> list[Series]:
        """All metrics at this moment; the number of queries does not depend on the number of runs.

        Scrapes are serialized: concurrent ones would add to the cache twice.
        """
        with self._lock, self.ctx.store.snapshot() as uow:
            now = self.ctx.clock.now()
            active = uow.metrics.active_runs()
            return [
                *_queue_series(uow, now=now),
                *_attempt_series(uow),
                *_heartbeat_series(active, now=now),
                *_usage_series(uow, now=now),
                *run_series(active, now=now),
                *sweep_series(self._sweep_logs.read_active_sweeps(uow)),
            ]


def _queue_series(uow: UnitOfWork, *, now: datetime) -> list[Series]:
    counts = uow.metrics.count_runs()
    oldest = uow.metrics.oldest_by_project(RunState.QUEUED)
    return [
        Series("runs", "Runs by state and project.", ("state", "project"), counts.items()),
        Series(
            "queue_depth",
            "Queued runs, by project.",
            ("project",),
            [
                ((project,), count)
                for (state, project), count in counts.items()
                if state is RunState.QUEUED
            ],
        ),
        Series(
            "queue_oldest_seconds",
            "Waiting time of the oldest queued run, by project.",
            ("project",),
            [((project,), (now - since).total_seconds()) for project, since in oldest.items()],
        ),
    ]


def _attempt_series(uow: UnitOfWork) -> list[Series]:
    reasons = uow.metrics.count_attempts_by_reason()
    return [
        Series(
            "attempts_ended",
            "Finished attempts by failure reason; `none` after success or a requested stop.",
            ("reason",),
            [((reason or "none",), count) for reason, count in reasons.items()],
        ),
        Series(
            "mlflow_unsynced_runs",
            "Finished runs whose final state is not yet in MLflow.",
            (),
            [((), uow.metrics.count_untracked())],
        ),
    ]


def _usage_series(uow: UnitOfWork, *, now: datetime) -> list[Series]:
    """Totals by project, with the usage of active attempts until `now`."""
    totals = totals_by_project(uow.metrics.active_usage(now), before=uow.metrics.ended_totals())
    return [
        Series(
            "gpu_seconds",
            "GPU seconds that attempts used, by project.",
            ("project",),
            [((name,), total.gpu_s) for name, total in totals.items()],
        ),
        Series(
            "cpu_seconds",
            "CPU core seconds that attempts used, by project.",
            ("project",),
            [((name,), total.cpu_s) for name, total in totals.items()],
        ),
    ]


def _heartbeat_series(active: Sequence[ActiveRun], *, now: datetime) -> list[Series]:
    ages_s = [run.heartbeat_age_s(now) for run in active if run.state is RunState.RUNNING]
    num_stale = sum(age_s > _STALE_HEARTBEAT_S for age_s in ages_s)
    return [
        Series(
            "heartbeat_age_seconds",
            "Age of the oldest heartbeat of all running workers.",
            (),
            [((), max(ages_s, default=0.0))],
        ),
        Series(
            "stale_heartbeat_runs",
            "Running runs whose last heartbeat is more than a minute old.",
            (),
            [((), num_stale)],
        ),
    ]
