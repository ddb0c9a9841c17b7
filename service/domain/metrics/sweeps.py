"""How each sweep that goes on stands, in figures: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from configs.protocol.sweep_log import Trial
from configs.spec.sweep import Objective
from service.domain.metrics.series import Series
from service.domain.trials import STANDINGS, best_trial, by_result

_SWEEP = ("sweep", "name", "project")


@dataclass(frozen=True)
class SweepAtWork:
    """A sweep that is not over, as far as figures tell of it."""

    id: str
    name: str
    project: str
    objective: Objective
    """The first: what its best trial is best in."""

    trials: Mapping[int, Trial]


def series_of_sweeps(sweeps: Sequence[SweepAtWork]) -> list[Series]:
    """Their trials by state, those that nobody is in included; and the best so far."""
    return [
        Series(
            "sweep_trials",
            "Trials of a sweep that is not over, by state.",
            (*_SWEEP, "state"),
            [
                ((one.id, one.name, one.project, state), counts[state])
                for one in sweeps
                for counts in [by_result(one.trials.values())]
                for state in STANDINGS
            ],
        ),
        Series(
            "sweep_best",
            "The best value of a sweep's first objective so far.",
            _SWEEP,
            list(_best(sweeps)),
        ),
    ]


def _best(sweeps: Iterable[SweepAtWork]) -> Iterable[tuple[Sequence[str], float]]:
    for one in sweeps:
        best = best_trial(one.trials.values(), one.objective)
        value = None if best is None else best.best(one.objective)
        if value is not None:
            yield (one.id, one.name, one.project), value
