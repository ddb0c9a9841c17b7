"""Trials of a sweep: what its log says of them, and what their runs add; no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Literal, get_args

from configs.protocol.sweep_log import (
    COMPLETED_RESULTS,
    SweepClosed,
    SweepEntry,
    SweepExtended,
    Trial,
    TrialEnded,
    TrialEvaluation,
    TrialProgress,
    TrialResult,
    TrialSuggested,
)
from configs.spec.sweep import Objective, Space, SweepSpec, Values
from service.domain.errors.requests import EntryRefused
from service.domain.runs import MetricPoint, Run
from service.domain.states import RunState

TrialStatus = Literal["running"] | TrialResult
"""A trial's result, or that it has none yet."""

TRIAL_STATUSES: Final[tuple[TrialStatus, ...]] = ("running", *get_args(TrialResult))


@dataclass(frozen=True)
class TrialRun:
    """A run of a trial, with its metrics that are objectives."""

    run: Run
    points: Mapping[str, Sequence[MetricPoint]] = field(default_factory=dict)
    """By metric, in ascending order of steps."""


def running_trials(trials: Mapping[int, Trial]) -> dict[int, Trial]:
    return {number: trial for number, trial in trials.items() if trial.ended is None}


def count_by_status(trials: Iterable[Trial]) -> Counter[TrialStatus]:
    return Counter("running" if trial.ended is None else trial.ended.result for trial in trials)


def describe_exhausted_budget(
    spec: SweepSpec, *, trials: int, hours: float, gpu_hours: float
) -> str | None:
    """Which part of the budget is used up; None if another trial may start."""
    budget = spec.budget
    if trials >= budget.trials:
        return f"all {budget.trials} trials have started"
    if budget.hours is not None and hours >= budget.hours:
        return f"its {budget.hours:g} hours are over"
    if budget.gpu_hours is not None and gpu_hours >= budget.gpu_hours:
        return f"its {budget.gpu_hours:g} GPU hours are used up"
    return None


def best_trial(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """The trial with the best value of an objective so far; the first of equal ones."""
    sign = 1.0 if objective.goal == "max" else -1.0
    candidates = [
        (sign * value, -trial.number, trial)
        for trial in trials
        if (value := trial.best_value(objective)) is not None and _can_be_best(trial)
    ]
    return max(candidates, key=lambda candidate: candidate[:2])[2] if candidates else None


def _can_be_best(trial: Trial) -> bool:
    return trial.ended is None or trial.ended.result in COMPLETED_RESULTS


def check_entries(
    new: Sequence[SweepEntry], *, trials: Mapping[int, Trial], space: Space, closed: bool
) -> None:
    """Raise `EntryRefused` for the first entry that a driver may not append."""
    live, begun = set(running_trials(trials)), len(trials)
    for at, entry in enumerate(new):
        if closed or isinstance(entry, SweepExtended):
            raise EntryRefused(at, "the search is closed; only `tandem extend` opens it again")
        if isinstance(entry, TrialSuggested):
            _check_suggested(at, entry, expected=begun, space=space)
            live.add(entry.number)
            begun += 1
        elif isinstance(entry, SweepClosed):
            _check_none_running(at, live)
            closed = True
        elif entry.number not in live:
            raise EntryRefused(at, f"trial {entry.number} is not running")
        elif isinstance(entry, TrialEnded):
            live.discard(entry.number)


def _check_suggested(at: int, entry: TrialSuggested, *, expected: int, space: Space) -> None:
    if entry.number != expected:
        raise EntryRefused(at, f"the next trial is {expected}, not {entry.number}")
    unknown = sorted(entry.values.keys() - space.keys())
    if unknown:
        raise EntryRefused(at, f"{', '.join(unknown)} is not in the space")


def _check_none_running(at: int, running: set[int]) -> None:
    if running:
        raise EntryRefused(at, f"trial {min(running)} is still running")


def compute_trial_progress(
    trial: Trial, runs: Sequence[TrialRun], objectives: Sequence[Objective], *, why: str | None
) -> TrialProgress:
    """A trial's evaluations and result; `why` says why its values make no valid spec, if so."""
    evaluations = _evaluations(runs, [objective.metric for objective in objectives])
    result: TrialResult | None
    if not runs:
        result = "cancelled" if why is None else "failed"
    else:
        result = _result(trial, [trial_run.run for trial_run in runs])
    return TrialProgress(number=trial.number, evaluations=evaluations, result=result)


def _result(trial: Trial, runs: Sequence[Run]) -> TrialResult | None:
    if not all(run.is_over for run in runs):
        return None
    states = {run.state for run in runs}
    if RunState.FAILED in states:
        return "failed"
    if states == {RunState.SUCCEEDED}:
        return "finished"
    return "stopped" if trial.is_stopped else "cancelled"


def _evaluations(runs: Sequence[TrialRun], metrics: Sequence[str]) -> tuple[TrialEvaluation, ...]:
    by_run = [_values_by_epoch(trial_run, metrics) for trial_run in runs]
    if not by_run:
        return ()
    epochs = set(by_run[0]).intersection(*by_run[1:])
    return tuple(
        TrialEvaluation(
            epoch=epoch,
            values={
                metric: sum(values[epoch][metric] for values in by_run) / len(by_run)
                for metric in metrics
            },
        )
        for epoch in sorted(epochs)
    )


def _values_by_epoch(trial_run: TrialRun, metrics: Sequence[str]) -> dict[int, dict[str, float]]:
    """The last values in each complete epoch that has all of the metrics.

    A point's epoch follows from its step, since a run's epochs are equally long.
    """
    progress = trial_run.run.results.progress
    if progress is None or progress.epochs < 1 or progress.steps < 1:
        return {}
    steps_per_epoch = progress.steps / progress.epochs
    newest = max((points[-1].step for points in trial_run.points.values() if points), default=0)
    last_step = max(progress.step, newest)
    by_epoch: dict[int, dict[str, float]] = {}
    for metric in metrics:
        for point in trial_run.points.get(metric, ()):
            epoch = max(1, ceil(round(point.step / steps_per_epoch, 6)))
            if epoch * steps_per_epoch <= last_step + 1e-6 * steps_per_epoch:
                by_epoch.setdefault(epoch, {})[metric] = point.value
    return {epoch: values for epoch, values in by_epoch.items() if len(values) == len(metrics)}


def format_values(values: Values) -> str:
    """A trial's values in one line, as in `schedule.epochs=12, seed=1`."""
    assignments = [
        f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}"
        for path, value in values.items()
    ]
    return ", ".join(assignments) or "the values of the base"
