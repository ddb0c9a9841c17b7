"""What the database says about runs, sweeps, queue and spent time: the figures on dashboards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

from service.domain.metrics.runs import RunAtWork, series_of_runs
from service.domain.metrics.series import Series, Spent, spent_by_project
from service.domain.metrics.sweeps import series_of_sweeps
from service.domain.repositories.unit_of_work import Unit
from service.domain.states import RunState
from service.usecases.context import World
from service.usecases.sweeps.cache import SweepLists

_SILENT_AFTER_S = 60.0


@dataclass
class _Spending:
    """Sums up what attempts had; one that has ended is read once."""

    _spent: dict[str, Spent] = field(default_factory=dict)
    _read_until: datetime | None = None

    def series(self, unit: Unit, *, now: datetime) -> list[Series]:
        """With what those have had so far that go on."""
        ended = unit.figures.ended(self._read_until)
        for use in ended:
            self._read_until = max(self._read_until or use.until, use.until)
        self._spent = spent_by_project(ended, before=self._spent)
        spent = spent_by_project(unit.figures.active(now), before=self._spent)
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
class Figures:
    """Remembers what never changes any more, so that each scrape asks for little."""

    world: World
    _spending: _Spending = field(default_factory=_Spending)
    _lists: SweepLists = field(default_factory=SweepLists)
    _turn: Lock = field(default_factory=Lock)

    def series(self) -> list[Series]:
        """Everything at this moment, by as many questions however many runs there are.

        Scrapes take turns: two at once would remember the same twice.
        """
        with self._turn, self.world.store.begin() as unit:
            now = self.world.clock.now()
            at_work = unit.figures.runs_at_work()
            return [
                *_of_queue(unit, now=now),
                *_of_ends(unit),
                *_of_silence(at_work, now=now),
                *self._spending.series(unit, now=now),
                *series_of_runs(at_work, now=now),
                *series_of_sweeps(self._lists.sweeps_at_work(unit)),
            ]


def _of_queue(unit: Unit, *, now: datetime) -> list[Series]:
    counts = unit.figures.runs()
    oldest = unit.figures.oldest_by_project(RunState.QUEUED)
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


def _of_ends(unit: Unit) -> list[Series]:
    reasons = unit.figures.attempts_by_reason()
    return [
        Series(
            "attempts_ended",
            "Attempts that have ended, by cause; without one, well or as they were asked to.",
            ("reason",),
            [((reason or "none",), count) for reason, count in reasons.items()],
        ),
        Series(
            "unsettled_runs",
            "Runs that are over, but not for MLflow.",
            (),
            [((), unit.figures.unsettled())],
        ),
    ]


def _of_silence(at_work: Sequence[RunAtWork], *, now: datetime) -> list[Series]:
    silences = [run.silence_s(now) for run in at_work if run.state is RunState.RUNNING]
    silent = sum(silence > _SILENT_AFTER_S for silence in silences)
    return [
        Series(
            "silence_seconds",
            "The longest silence of a worker that trains.",
            (),
            [((), max(silences, default=0.0))],
        ),
        Series("silent_runs", "Runs whose worker was not heard for a minute.", (), [((), silent)]),
    ]
