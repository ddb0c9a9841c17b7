"""Where Ray Tune gets its trials from: those of the list that go on, then new ones.

A new trial is in the list, and so has its runs, before Tune hears of it.
"""

import logging
from collections import Counter
from typing import Any

from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.experiment import Experiment, Trial
from ray.tune.search import SearchAlgorithm

from configs.protocol.names import ExitCode
from configs.protocol.sweep_log import TrialSuggested
from workers.search.space import Wait
from workers.search.suggest import suggest
from workers.search.sweep_log import DriverExit, SweepLogMirror
from workers.search.trial_status import TrialStatusWriter
from workers.search.tune_trial import MonitoredTrial

_SHARE_OF_NODE = 0.0001
"""The least that Ray tells apart; it binds a process to the node and leaves room for 10,000."""

_MOST_FOLLOWERS = 5
"""Processes that may be lost one after the other while they follow one trial."""

log = logging.getLogger(__name__)


class LoggedSearchAlgorithm(SearchAlgorithm):
    """Trials by number, some at a time."""

    def __init__(
        self, ledger: SweepLogMirror, board: TrialStatusWriter, *, node: str, max_concurrent: int
    ) -> None:
        self._ledger = ledger
        self._board = board
        self._node = node
        self._at_a_time = max_concurrent
        self._experiment: Experiment | None = None
        self._followed: set[int] = set()
        self._followers: Counter[int] = Counter()
        self._is_exhausted = False

    def add_configurations(self, experiments: Any) -> None:
        """Called by Tune once, before the first trial."""
        (self._experiment,) = experiments

    def next_trial(self) -> Trial | None:
        """A trial to follow; none for now. Called by Tune whenever it could take one."""
        self._board.poll()
        number = self._next_number()
        if number is None:
            return None
        self._followed.add(number)
        self._followers[number] += 1
        return self._trial(number)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A process follows its trial no more: the trial is over, or the process was lost."""
        number = int(trial_id.partition("-")[0])
        if error or result is None:
            self._follow_again(number)
        elif "result" in result:
            ended = self._ledger.sweep.build_ended(number, result["result"])
            self._ledger.append(ended)
            log.info("Trial %d: %s, %s.", number, ended.result, ended.values or "no evaluation")

    def is_finished(self) -> bool:
        """Whether no trial is left to follow, and none begins any more."""
        return self.end_reason() is not None and self._unfollowed() is None

    def end_reason(self) -> str | None:
        """Why no trial begins any more; none: one may."""
        history = self._ledger.sweep
        if len(history.trials) >= history.active_spec.budget.trials:
            return f"All {len(history.trials)} trials have been."
        if self._is_exhausted:
            return f"All {len(history.trials)} points of the search have been."
        if not self._ledger.allows_new_trials:
            return "The service lets no more trials begin: stopped, or out of budget."
        return None

    def _next_number(self) -> int | None:
        waiting = self._unfollowed()
        if waiting is not None:
            return waiting
        if self.end_reason() is not None or self._live() >= self._at_a_time:
            return None
        return self._begin()

    def _unfollowed(self) -> int | None:
        trials = self._ledger.sweep.trials
        going_on = (trial.number for trial in trials if trial.ended is None)
        return next((number for number in going_on if number not in self._followed), None)

    def _live(self) -> int:
        return sum(trial.ended is None for trial in self._ledger.sweep.trials)

    def _begin(self) -> int | None:
        history = self._ledger.sweep
        values = suggest(history.active_spec, history.trials)
        if isinstance(values, Wait):
            return None
        if values is None:
            self._is_exhausted = True
            return None
        number = len(history.trials)
        self._ledger.append(TrialSuggested(number=number, values=values))
        log.info("Trial %d begins: %s.", number, values)
        return number

    def _follow_again(self, number: int) -> None:
        if self._followers[number] >= _MOST_FOLLOWERS:
            message = f"{_MOST_FOLLOWERS} processes were lost that followed trial {number}."
            raise DriverExit(ExitCode.INTERRUPTED, message)
        log.warning("The process that followed trial %d is lost; another takes over.", number)
        self._followed.discard(number)

    def _trial(self, number: int) -> Trial:
        assert self._experiment is not None
        return MonitoredTrial(
            self._experiment.run_identifier,
            config={"number": number, "folder": str(self._board.folder)},
            trial_id=f"{number}-{self._followers[number]}",
            storage=self._experiment.storage,
            placement_group_factory=PlacementGroupFactory([{self._node: _SHARE_OF_NODE}]),
            trial_dirname_creator=lambda trial: trial.trial_id,
        )
