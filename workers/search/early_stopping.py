"""Whether a trial goes on: one of Ray Tune's schedulers, told of nothing but evaluations.

It sees stand-ins for trials and for Tune itself, so that the same evaluations in the same order
make the same scheduler, now or after a restart.
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
class _StandIn:
    """A trial, as far as a scheduler looks at it."""

    trial_id: str


class _Nobody:
    """Tune, as far as a scheduler looks at it: no trial waits for another's place."""

    def get_live_trials(self) -> list[Any]:
        return []


class EarlyStopper:
    """Decides after each evaluation of a trial; what the list says already was so decided."""

    def __init__(self, history: ReplayedSweep) -> None:
        self._history = history
        self._objective = history.spec.objectives[0]
        self._scheduler = _scheduler(history.spec, self._objective)
        self._tune: Any = _Nobody()
        self._known: set[int] = set()
        self._stopped: set[int] = set()
        for judged in history.judgments:
            self.should_continue(judged.number, epoch=judged.epoch, values=judged.values)

    def should_continue(self, number: int, *, epoch: int, values: dict[str, float]) -> bool:
        """Whether a trial trains on after an evaluation; after its last epoch it always does.

        Of a trial that it would have stopped the scheduler hears no more, even if it goes on.
        """
        if self._objective.metric not in values or number in self._stopped:
            return True
        trial: Any = _StandIn(str(number))
        if number not in self._known:
            self._add(trial, number)
        result = {_EPOCH: epoch, self._objective.metric: values[self._objective.metric]}
        if self._scheduler.on_trial_result(self._tune, trial, result) != TrialScheduler.STOP:
            return True
        self._stopped.add(number)
        own = self._history.trials[number].values
        return epoch >= trial_epochs(self._history.spec, own)

    def debug_string(self) -> str:
        """The scheduler's own words on its state."""
        return self._scheduler.debug_string()

    def _add(self, trial: Any, number: int) -> None:
        """Hyperband draws a bracket from numpy's generator: for one trial always the same."""
        before = np.random.get_state()
        digest = hashlib.sha256(f"{self._history.spec.seed}/{number}".encode()).digest()
        np.random.seed(int.from_bytes(digest[:4], "big"))
        try:
            self._scheduler.on_trial_add(self._tune, trial)
        finally:
            np.random.set_state(before)
        self._known.add(number)


def trial_epochs(spec: SweepSpec, values: Values) -> int:
    """How long a trial trains."""
    return int(values.get(_EPOCHS, spec.base.schedule.epochs))


def _scheduler(spec: SweepSpec, objective: Objective) -> TrialScheduler:
    asked = spec.scheduler
    wish: dict[str, Any] = {"time_attr": _EPOCH, "metric": objective.metric, "mode": objective.goal}
    if isinstance(asked, MedianStopping):
        return MedianStoppingRule(
            **wish, grace_period=asked.grace_epochs, min_samples_required=asked.min_trials
        )
    if isinstance(asked, Asha | Hyperband):
        longest = _longest(spec)
        return AsyncHyperBandScheduler(
            **wish,
            max_t=longest,
            grace_period=min(asked.grace_epochs, longest),
            reduction_factor=asked.factor,
            brackets=asked.brackets if isinstance(asked, Hyperband) else 1,
            # Else a trial is judged by a lower rung that evaluations had passed over, too.
            stop_last_trials=False,
        )
    return FIFOScheduler()


def _longest(spec: SweepSpec) -> int:
    """Epochs of the longest trial there can be."""
    swept = spec.space.get(_EPOCHS)
    if swept is None:
        return spec.base.schedule.epochs
    return max(map(int, swept.values)) if isinstance(swept, Choice) else int(swept.high)
