"""The search algorithm of a sweep: resumes the running trials of the log, then suggests new ones.

A new trial is in the log, and the service has created its runs, before Ray Tune gets it.
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
from workers.telemetry.log_lines import format_values

_NODE_RESOURCE_AMOUNT = 0.0001
"""Ray's smallest resource amount: pins a monitor to the node, up to 10,000 of them."""

_MAX_MONITORS = 5
"""Monitors that may be lost, one after the other, for one trial."""

log = logging.getLogger(__name__)


class LoggedSearchAlgorithm(SearchAlgorithm):
    """A Tune search algorithm that logs its trials, with at most `max_concurrent` running."""

    def __init__(
        self,
        log_mirror: SweepLogMirror,
        status_writer: TrialStatusWriter,
        *,
        node: str,
        max_concurrent: int,
    ) -> None:
        self._log_mirror = log_mirror
        self._status_writer = status_writer
        self._node = node
        self._max_concurrent = max_concurrent
        self._experiment: Experiment | None = None
        self._monitored: set[int] = set()
        self._monitor_count: Counter[int] = Counter()
        self._is_exhausted = False

    def add_configurations(self, experiments: Any) -> None:
        """Called by Tune once, before the first trial."""
        (self._experiment,) = experiments

    def next_trial(self) -> Trial | None:
        """Return the next trial, or None for now; called by Tune whenever it can start one."""
        self._status_writer.poll()
        number = self._next_number()
        if number is None:
            return None
        self._monitored.add(number)
        self._monitor_count[number] += 1
        return self._build_trial(number)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Log the end of a trial, or restart its monitor if that was lost; called by Tune."""
        number = int(trial_id.partition("-")[0])
        if error or result is None:
            self._restart_monitor(number)
        elif "result" in result:
            ended = self._log_mirror.sweep.build_ended(number, result["result"])
            self._log_mirror.append(ended)
            values = format_values(ended.values) or "no evaluation"
            log.info("Trial %d: %s, %s.", number, ended.result, values)

    def is_finished(self) -> bool:
        """Whether no trial needs a monitor and no new trial may start."""
        return self.end_reason() is not None and self._next_unmonitored() is None

    def end_reason(self) -> str | None:
        """The reason why no new trial may start; None while one may."""
        sweep = self._log_mirror.sweep
        if len(sweep.trials) >= sweep.active_spec.budget.trials:
            return f"All {len(sweep.trials)} trials have run."
        if self._is_exhausted:
            return f"All {len(sweep.trials)} points of the search space have been tried."
        if not self._log_mirror.allows_new_trials:
            return "The service allows no new trials: the sweep was stopped or its budget is spent."
        return None

    def _next_number(self) -> int | None:
        unmonitored = self._next_unmonitored()
        if unmonitored is not None:
            return unmonitored
        if self.end_reason() is not None or self._num_running() >= self._max_concurrent:
            return None
        return self._suggest_trial()

    def _next_unmonitored(self) -> int | None:
        trials = self._log_mirror.sweep.trials
        running = (trial.number for trial in trials if trial.ended is None)
        return next((number for number in running if number not in self._monitored), None)

    def _num_running(self) -> int:
        return sum(trial.ended is None for trial in self._log_mirror.sweep.trials)

    def _suggest_trial(self) -> int | None:
        sweep = self._log_mirror.sweep
        values = suggest(sweep.active_spec, sweep.trials)
        if isinstance(values, Wait):
            return None
        if values is None:
            self._is_exhausted = True
            return None
        number = len(sweep.trials)
        self._log_mirror.append(TrialSuggested(number=number, values=values))
        log.info("Trial %d starts: %s.", number, values)
        return number

    def _restart_monitor(self, number: int) -> None:
        if self._monitor_count[number] >= _MAX_MONITORS:
            message = f"{_MAX_MONITORS} monitors of trial {number} were lost; see the Ray logs."
            raise DriverExit(ExitCode.INTERRUPTED, message)
        log.warning("The monitor of trial %d was lost; starting another one.", number)
        self._monitored.discard(number)

    def _build_trial(self, number: int) -> Trial:
        assert self._experiment is not None
        return MonitoredTrial(
            self._experiment.run_identifier,
            config={"number": number, "folder": str(self._status_writer.folder)},
            trial_id=f"{number}-{self._monitor_count[number]}",
            storage=self._experiment.storage,
            placement_group_factory=PlacementGroupFactory([{self._node: _NODE_RESOURCE_AMOUNT}]),
            trial_dirname_creator=lambda trial: trial.trial_id,
        )
