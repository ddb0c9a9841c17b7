"""Time series of the sweeps that are not over; no I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from configs.protocol.sweep_log import Trial
from configs.spec.sweep import Objective
from service.domain.metrics.series import Series
from service.domain.trials import TRIAL_STATUSES, best_trial, count_by_status

_SWEEP = ("sweep", "name", "project")


@dataclass(frozen=True)
class ActiveSweep:
    """A sweep that is not over, with what its series need."""

    id: str
    name: str
    project: str
    objective: Objective
    """The first of its objectives."""

    trials: Mapping[int, Trial]


def sweep_series(sweeps: Sequence[ActiveSweep]) -> list[Series]:
    """The number of trials by state, zeros included, and the best value so far."""
    return [
        Series(
            "sweep_trials",
            "Trials of a sweep that is not over, by state.",
            (*_SWEEP, "state"),
            [
                ((sweep.id, sweep.name, sweep.project, state), counts[state])
                for sweep in sweeps
                for counts in [count_by_status(sweep.trials.values())]
                for state in TRIAL_STATUSES
            ],
        ),
        Series(
            "sweep_best",
            "The best value of a sweep's first objective so far.",
            _SWEEP,
            list(_best_values(sweeps)),
        ),
    ]


def _best_values(sweeps: Iterable[ActiveSweep]) -> Iterable[tuple[Sequence[str], float]]:
    for sweep in sweeps:
        best = best_trial(sweep.trials.values(), sweep.objective)
        value = None if best is None else best.best_value(sweep.objective)
        if value is not None:
            yield (sweep.id, sweep.name, sweep.project), value
