"""Early stopping of trials by one of Ray Tune's schedulers.

The scheduler gets stubs for the trials and for Tune's controller. Its state therefore depends only
on the evaluations and their order, and is the same after a restart.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from configs.spec.search import Asha, Choice, Hyperband, MedianStopping
from configs.spec.sweep import Objective, SweepSpec, Values
from workers.search.sweep_log import ReplayedSweep

_EPOCHS = "schedule.epochs"
_EPOCH = "epoch"


@dataclass(frozen=True)
class _TrialStub:
    """The part of Tune's `Trial` that schedulers read."""

    trial_id: str


class _TuneControllerStub:
    """The part of Tune's `TuneController` that schedulers read: no trial waits for resources."""

    def get_live_trials(self) -> list[Any]:
        return []


class EarlyStopper:
    """Decides after each evaluation whether a trial continues; replays the decisions in the log."""

    def __init__(self, sweep: ReplayedSweep) -> None:
        self._sweep = sweep
        self._objective = sweep.spec.objectives[0]
        self._scheduler = _build_scheduler(sweep.spec, self._objective)
        self._tune: Any = _TuneControllerStub()
        self._added: set[int] = set()
        self._stopped: set[int] = set()
        for judgment in sweep.judgments:
            self.should_continue(judgment.number, epoch=judgment.epoch, values=judgment.values)

    def should_continue(self, number: int, *, epoch: int, values: dict[str, float]) -> bool:
        """Whether a trial continues after an evaluation; always true after its last epoch.

        A trial that the scheduler decided to stop is not reported to it again, even if the trial
        continues.
        """
        if self._objective.metric not in values or number in self._stopped:
            return True
        trial: Any = _TrialStub(str(number))
        if number not in self._added:
            self._add(trial, number)
        result = {_EPOCH: epoch, self._objective.metric: values[self._objective.metric]}
        if self._scheduler.on_trial_result(self._tune, trial, result) != TrialScheduler.STOP:
            return True
        self._stopped.add(number)
        trial_values = self._sweep.trials[number].values
        return epoch >= trial_epochs(self._sweep.spec, trial_values)

    def debug_string(self) -> str:
        """Tune's description of the scheduler's state."""
        return self._scheduler.debug_string()

    def _add(self, trial: Any, number: int) -> None:
        """Add a trial. Hyperband draws its bracket from numpy's global generator, seeded here."""
        rng_state = np.random.get_state()
        digest = hashlib.sha256(f"{self._sweep.spec.seed}/{number}".encode()).digest()
        np.random.seed(int.from_bytes(digest[:4], "big"))
        try:
            self._scheduler.on_trial_add(self._tune, trial)
        finally:
            np.random.set_state(rng_state)
        self._added.add(number)


def trial_epochs(spec: SweepSpec, values: Values) -> int:
    """Epochs that a trial with these values trains."""
    return int(values.get(_EPOCHS, spec.base.schedule.epochs))


def _build_scheduler(spec: SweepSpec, objective: Objective) -> TrialScheduler:
    config = spec.scheduler
    common: dict[str, Any] = {
        "time_attr": _EPOCH,
        "metric": objective.metric,
        "mode": objective.goal,
    }
    if isinstance(config, MedianStopping):
        return MedianStoppingRule(
            **common, grace_period=config.grace_epochs, min_samples_required=config.min_trials
        )
    if isinstance(config, Asha | Hyperband):
        max_epochs = _max_epochs(spec)
        return AsyncHyperBandScheduler(
            **common,
            max_t=max_epochs,
            grace_period=min(config.grace_epochs, max_epochs),
            reduction_factor=config.factor,
            brackets=config.brackets if isinstance(config, Hyperband) else 1,
            # Otherwise a trial is also judged at lower rungs that its evaluations have skipped.
            stop_last_trials=False,
        )
    return FIFOScheduler()


def _max_epochs(spec: SweepSpec) -> int:
    """Epochs of the longest possible trial."""
    swept = spec.space.get(_EPOCHS)
    if swept is None:
        return spec.base.schedule.epochs
    return max(map(int, swept.values)) if isinstance(swept, Choice) else int(swept.high)
