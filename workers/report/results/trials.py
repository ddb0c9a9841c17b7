"""The trials of a sweep, from its log and its runs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from configs.metric_keys import Metric
from configs.protocol.comparison import NoiseFloor
from configs.protocol.report import ReportInputs, ReportRun
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
    """A trial with its runs and results."""

    number: int
    values: Values
    runs: tuple[ReportRun, ...]
    result: TrialResult | None
    """None while it is running."""

    epoch: int
    """Epoch of its last evaluation."""

    best_values: dict[str, float]
    """Best value of each objective by metric; the mean over seeds."""

    @property
    def epochs(self) -> int:
        """Epochs that the trial was scheduled to train."""
        return max((run.spec.schedule.epochs for run in self.runs), default=self.epoch)

    @property
    def map(self) -> float | None:
        """Best mAP; the mean over seeds."""
        if Metric.MAP in self.best_values:
            return self.best_values[Metric.MAP]
        rated = [run.best_map for run in self.runs if run.best_map is not None]
        return fmean(rated) if rated else None

    @property
    def seeds(self) -> int:
        """Number of runs over which its values are means."""
        return max(1, len(self.runs))

    def value(self, objective: Objective) -> float | None:
        """Best value of an objective; None if it was never measured."""
        if objective.metric == Metric.MAP:
            return self.map
        return self.best_values.get(objective.metric)


def build_report_trials(inputs: ReportInputs) -> tuple[ReportTrial, ...]:
    """Build all trials of the log and the runs, ordered by number."""
    suggested = {e.number: e for e in inputs.entries if isinstance(e, TrialSuggested)}
    ended = {e.number: e for e in inputs.entries if isinstance(e, TrialEnded)}
    judgments = {e.number: e for e in inputs.entries if isinstance(e, TrialJudged)}
    numbers = suggested.keys() | {run.trial for run in inputs.runs if run.trial is not None}
    trials = []
    for number in sorted(numbers):
        runs = tuple(run for run in inputs.runs if run.trial == number)
        ended_entry, judgment = ended.get(number), judgments.get(number)
        values = suggested[number].values if number in suggested else runs[0].values
        trials.append(
            ReportTrial(
                number=number,
                values=values,
                runs=runs,
                result=ended_entry.result if ended_entry else _result_of(runs),
                epoch=ended_entry.epoch if ended_entry else judgment.epoch if judgment else 0,
                best_values=dict(
                    ended_entry.values if ended_entry else judgment.values if judgment else {}
                ),
            )
        )
    return tuple(trials)


def get_objective(inputs: ReportInputs) -> Objective:
    """The objective that ranks the trials: the first one, or mAP without a sweep."""
    return inputs.sweep.objectives[0] if inputs.sweep else Objective()


def get_space(inputs: ReportInputs) -> Space:
    """The search space after the last extension; empty without a sweep."""
    extensions = [entry.space for entry in inputs.entries if isinstance(entry, SweepExtended)]
    if inputs.sweep is None:
        return {}
    return extensions[-1] if extensions else inputs.sweep.space


def rank_finished(trials: Iterable[ReportTrial], objective: Objective) -> list[ReportTrial]:
    """Finished trials with a value of the objective, the best first."""
    rated = [
        trial
        for trial in trials
        if trial.result == "finished" and trial.value(objective) is not None
    ]
    return sorted(rated, key=lambda trial: -_signed_value(trial, objective))


def find_ties(
    best: ReportTrial,
    trials: Sequence[ReportTrial],
    *,
    objective: Objective,
    noise: NoiseFloor | None,
) -> tuple[int, ...]:
    """Numbers of the finished trials that differ from the best by at most the noise floor.

    The floor is one of mAP, so there are no ties in other metrics.
    """
    if noise is None or objective.metric != Metric.MAP:
        return ()
    best_score = _signed_value(best, objective)
    return tuple(
        trial.number
        for trial in sorted(trials, key=lambda trial: trial.number)
        if trial.number != best.number
        and best_score - _signed_value(trial, objective) <= noise_floor_between(best, trial, noise)
    )


def noise_floor_between(first: ReportTrial, second: ReportTrial, noise: NoiseFloor) -> float:
    """Noise floor of a difference of two means: lower by sqrt(n) if both are over n seeds."""
    return noise.floor * math.sqrt((1 / first.seeds + 1 / second.seeds) / 2)


def epochs_saved(trial: ReportTrial) -> int:
    """Epochs that a trial's runs did not train because the scheduler stopped it."""
    if trial.result != "stopped":
        return 0
    return max(0, trial.epochs - trial.epoch) * trial.seeds


def _signed_value(trial: ReportTrial, objective: Objective) -> float:
    value = trial.value(objective)
    assert value is not None
    return value if objective.goal == "max" else -value


def _result_of(runs: Sequence[ReportRun]) -> TrialResult | None:
    """Result of a trial that has no end in the log: the worst result of its runs."""
    results = {run.result for run in runs}
    for worst_result in ("failed", "cancelled", "stopped"):
        if worst_result in results:
            return worst_result
    return "finished" if results == {"finished"} else None
