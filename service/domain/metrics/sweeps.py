"""How each sweep that goes on stands, in figures: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from configs.protocol.sweep_log import Trial
from configs.spec.sweep import Objective
from service.domain.metrics.series import Series
from service.domain.trials import TRIAL_STATUSES, best_trial, count_by_status

_SWEEP = ("sweep", "name", "project")


@dataclass(frozen=True)
class ActiveSweep:
    """A sweep that is not over, as far as figures tell of it."""

    id: str
    name: str
    project: str
    objective: Objective
    """The first: what its best trial is best in."""

    trials: Mapping[int, Trial]


def sweep_series(sweeps: Sequence[ActiveSweep]) -> list[Series]:
    """Their trials by state, those that nobody is in included; and the best so far."""
    return [
        Series(
            "sweep_trials",
            "Trials of a sweep that is not over, by state.",
            (*_SWEEP, "state"),
            [
                ((one.id, one.name, one.project, state), counts[state])
                for one in sweeps
                for counts in [count_by_status(one.trials.values())]
                for state in TRIAL_STATUSES
            ],
        ),
        Series(
            "sweep_best",
            "The best value of a sweep's first objective so far.",
            _SWEEP,
            list(_best(sweeps)),
        ),
    ]


def _best(sweeps: Iterable[ActiveSweep]) -> Iterable[tuple[Sequence[str], float]]:
    for one in sweeps:
        best = best_trial(one.trials.values(), one.objective)
        value = None if best is None else best.best_value(one.objective)
        if value is not None:
            yield (one.id, one.name, one.project), value
