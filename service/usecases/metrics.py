"""What the database says about runs, sweeps, queue and spent time: the figures on dashboards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

from service.domain.metrics.runs import ActiveRun, run_series
from service.domain.metrics.series import ResourceTotals, Series, totals_by_project
from service.domain.metrics.sweeps import sweep_series
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.sweeps.cache import SweepLogCache

_SILENT_AFTER_S = 60.0


@dataclass
class _Spending:
    """Sums up what attempts had; one that has ended is read once."""

    _spent: dict[str, ResourceTotals] = field(default_factory=dict)
    _read_until: datetime | None = None

    def series(self, uow: UnitOfWork, *, now: datetime) -> list[Series]:
        """With what those have had so far that go on."""
        ended = uow.metrics.ended_usage(self._read_until)
        for use in ended:
            self._read_until = max(self._read_until or use.until, use.until)
        self._spent = totals_by_project(ended, before=self._spent)
        spent = totals_by_project(uow.metrics.active_usage(now), before=self._spent)
        return [
            Series(
                "gpu_seconds",
                "Seconds of GPUs that attempts had, by project.",
                ("project",),
                [((name,), one.gpu_s) for name, one in spent.items()],
            ),
            Series(
                "cpu_seconds",
                "Seconds of CPU cores that attempts had, by project.",
                ("project",),
                [((name,), one.cpu_s) for name, one in spent.items()],
            ),
        ]


@dataclass
class MetricsCollector:
    """Remembers what never changes any more, so that each scrape asks for little."""

    ctx: Context
    _spending: _Spending = field(default_factory=_Spending)
    _lists: SweepLogCache = field(default_factory=SweepLogCache)
    _turn: Lock = field(default_factory=Lock)

    def series(self) -> list[Series]:
        """Everything at this moment, by as many questions however many runs there are.

        Scrapes take turns: two at once would remember the same twice.
        """
        with self._turn, self.ctx.store.transaction() as uow:
            now = self.ctx.clock.now()
            at_work = uow.metrics.active_runs()
            return [
                *_of_queue(uow, now=now),
                *_of_ends(uow),
                *_of_silence(at_work, now=now),
                *self._spending.series(uow, now=now),
                *run_series(at_work, now=now),
                *sweep_series(self._lists.read_active_sweeps(uow)),
            ]


def _of_queue(uow: UnitOfWork, *, now: datetime) -> list[Series]:
    counts = uow.metrics.count_runs()
    oldest = uow.metrics.oldest_by_project(RunState.QUEUED)
    return [
        Series("runs", "Runs by state and project.", ("state", "project"), counts.items()),
        Series(
            "queue_depth",
            "Runs that wait, by project.",
            ("project",),
            [
                ((project,), count)
                for (state, project), count in counts.items()
                if state is RunState.QUEUED
            ],
        ),
        Series(
            "queue_oldest_seconds",
            "How long the run waits that has waited longest, by project.",
            ("project",),
            [((project,), (now - since).total_seconds()) for project, since in oldest.items()],
        ),
    ]


def _of_ends(uow: UnitOfWork) -> list[Series]:
    reasons = uow.metrics.count_attempts_by_reason()
    return [
        Series(
            "attempts_ended",
            "Attempts that have ended, by cause; without one, well or as they were asked to.",
            ("reason",),
            [((reason or "none",), count) for reason, count in reasons.items()],
        ),
        Series(
            "mlflow_unsynced_runs",
            "Runs that are over, but not for MLflow.",
            (),
            [((), uow.metrics.count_untracked())],
        ),
    ]


def _of_silence(at_work: Sequence[ActiveRun], *, now: datetime) -> list[Series]:
    silences = [run.heartbeat_age_s(now) for run in at_work if run.state is RunState.RUNNING]
    silent = sum(silence > _SILENT_AFTER_S for silence in silences)
    return [
        Series(
            "heartbeat_age_seconds",
            "The longest silence of a worker that trains.",
            (),
            [((), max(silences, default=0.0))],
        ),
        Series(
            "stale_heartbeat_runs",
            "Runs whose worker was not heard for a minute.",
            (),
            [((), silent)],
        ),
    ]
