"""What the database says about runs, queue and spent time: the figures behind the dashboards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from service.domain.figures import Series, Spent, spent_by_project
from service.domain.states import RunState
from service.usecases.world import World

_SILENT_AFTER_S = 60.0


@dataclass
class Figures:
    """Remembers what was spent by attempts that have ended, so that each is read once."""

    world: World
    _spent: dict[str, Spent] = field(default_factory=dict)
    _read_until: datetime | None = None

    def series(self) -> list[Series]:
        """Everything at this moment."""
        now = self.world.clock.now()
        with self.world.store.begin() as unit:
            counts = unit.figures.runs()
            reasons = unit.figures.attempts_by_reason()
            queued = unit.figures.oldest_by_project(RunState.QUEUED)
            heard = unit.figures.last_words()
            unsettled = unit.figures.unsettled()
            ended = unit.figures.ended(self._read_until)
            active = unit.figures.active(now)
        for use in ended:
            self._read_until = max(self._read_until or use.until, use.until)
        self._spent = spent_by_project(ended, before=self._spent)
        spent = spent_by_project(active, before=self._spent)
        silences = [(now - at).total_seconds() for at in heard]
        depth = {
            (project,): float(count)
            for (state, project), count in counts.items()
            if state is RunState.QUEUED
        }
        oldest = {(name,): (now - since).total_seconds() for name, since in queued.items()}
        silent = sum(silence > _SILENT_AFTER_S for silence in silences)
        return [
            Series("runs", "Runs by state and project.", ("state", "project"), counts.items()),
            Series(
                "attempts_ended",
                "Attempts that have ended, by cause; without one, well or as they were asked to.",
                ("reason",),
                [((reason or "none",), count) for reason, count in reasons.items()],
            ),
            Series("queue_depth", "Runs that wait, by project.", ("project",), depth.items()),
            Series(
                "queue_oldest_seconds",
                "How long the run waits that has waited longest, by project.",
                ("project",),
                oldest.items(),
            ),
            Series(
                "silence_seconds",
                "The longest silence of a worker that trains.",
                (),
                [((), max(silences, default=0.0))],
            ),
            Series(
                "silent_runs", "Runs whose worker was not heard for a minute.", (), [((), silent)]
            ),
            Series(
                "unsettled_runs", "Runs that are over, but not for MLflow.", (), [((), unsettled)]
            ),
            *_spent(spent),
        ]


def _spent(spent: Mapping[str, Spent]) -> list[Series]:
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
