"""A sweep's trials, as its list and its runs tell of them together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from configs.protocol.names import Metric
from configs.protocol.report import NoiseFloor, ReportInputs, ReportRun
from configs.protocol.sweep_log import (
    SweepExtended,
    TrialEnded,
    TrialJudged,
    TrialResult,
    TrialSuggested,
)
from configs.spec.sweep import Objective, Space, Values


@dataclass(frozen=True)
class ReportTrial:
    """One point of a sweep with what became of it."""

    number: int
    values: Values
    runs: tuple[ReportRun, ...]
    result: TrialResult | None
    """None: it goes on."""

    epoch: int
    """Of its last evaluation."""

    best_values: dict[str, float]
    """By metric, each objective's best; over repeats the mean."""

    @property
    def epochs(self) -> int:
        """Those that it was to train."""
        return max((run.spec.schedule.epochs for run in self.runs), default=self.epoch)

    @property
    def map(self) -> float | None:
        """Best mAP; over repeats the mean."""
        if Metric.MAP in self.best_values:
            return self.best_values[Metric.MAP]
        known = [run.best_map for run in self.runs if run.best_map is not None]
        return fmean(known) if known else None

    @property
    def seeds(self) -> int:
        """Runs over which its numbers are means."""
        return max(1, len(self.runs))

    def value(self, objective: Objective) -> float | None:
        """Its number for an objective; none: it has none."""
        if objective.metric == Metric.MAP:
            return self.map
        return self.best_values.get(objective.metric)


def build_report_trials(dossier: ReportInputs) -> tuple[ReportTrial, ...]:
    """Every trial that the list or a run names, by number."""
    begun = {e.number: e for e in dossier.entries if isinstance(e, TrialSuggested)}
    ended = {e.number: e for e in dossier.entries if isinstance(e, TrialEnded)}
    judged = {e.number: e for e in dossier.entries if isinstance(e, TrialJudged)}
    numbers = begun.keys() | {run.trial for run in dossier.runs if run.trial is not None}
    trials = []
    for number in sorted(numbers):
        runs = tuple(run for run in dossier.runs if run.trial == number)
        end, judgement = ended.get(number), judged.get(number)
        values = begun[number].values if number in begun else runs[0].values
        trials.append(
            ReportTrial(
                number=number,
                values=values,
                runs=runs,
                result=end.result if end else _result_of(runs),
                epoch=end.epoch if end else judgement.epoch if judgement else 0,
                best_values=dict(end.values if end else judgement.values if judgement else {}),
            )
        )
    return tuple(trials)


def get_objective(dossier: ReportInputs) -> Objective:
    """What decides which trial is the best: the first objective, mAP without a sweep."""
    return dossier.sweep.objectives[0] if dossier.sweep else Objective()


def get_space(dossier: ReportInputs) -> Space:
    """What is varied, as the sweep was last extended; empty without one."""
    extensions = [entry.space for entry in dossier.entries if isinstance(entry, SweepExtended)]
    if dossier.sweep is None:
        return {}
    return extensions[-1] if extensions else dossier.sweep.space


def rank_finished(trials: Iterable[ReportTrial], objective: Objective) -> list[ReportTrial]:
    """Trials that trained to their end and have a number, the best first."""
    known = [t for t in trials if t.result == "finished" and t.value(objective) is not None]
    return sorted(known, key=lambda trial: -_towards_best(trial, objective))


def find_ties(
    best: ReportTrial,
    trials: Sequence[ReportTrial],
    *,
    objective: Objective,
    noise: NoiseFloor | None,
) -> tuple[int, ...]:
    """Numbers of the finished trials whose difference from the best is within the noise floor.

    The floor is one of mAP, so nothing is tied in another metric.
    """
    if noise is None or objective.metric != Metric.MAP:
        return ()
    lead = _towards_best(best, objective)
    return tuple(
        trial.number
        for trial in sorted(trials, key=lambda trial: trial.number)
        if trial.number != best.number
        and lead - _towards_best(trial, objective) <= floor_between(best, trial, noise)
    )


def floor_between(one: ReportTrial, other: ReportTrial, noise: NoiseFloor) -> float:
    """The floor for a difference of two means: sqrt(n) lower where both are over n seeds."""
    return noise.floor * math.sqrt((1 / one.seeds + 1 / other.seeds) / 2)


def epochs_saved(trial: ReportTrial) -> int:
    """What a trial's runs did not train because the scheduler stopped it."""
    if trial.result != "stopped":
        return 0
    return max(0, trial.epochs - trial.epoch) * trial.seeds


def _towards_best(trial: ReportTrial, objective: Objective) -> float:
    value = trial.value(objective)
    assert value is not None
    return value if objective.goal == "max" else -value


def _result_of(runs: Sequence[ReportRun]) -> TrialResult | None:
    """A trial's end by its runs, where the list does not tell: the worst of them."""
    results = {run.result for run in runs}
    for worst in ("failed", "cancelled", "stopped"):
        if worst in results:
            return worst
    return "finished" if results == {"finished"} else None
