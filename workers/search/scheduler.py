"""What Ray Tune asks after each result: the decision is in the list before Tune hears of it."""

import logging
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from configs.protocol.sweep_log import TrialJudged
from workers.search.early_stopping import EarlyStopper
from workers.search.sweep_log import SweepLogMirror
from workers.search.trial_status import TrialStatusWriter

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

log = logging.getLogger(__name__)


class LoggedScheduler(FIFOScheduler):
    """Has a `EarlyStopper` decide, and the list remember it."""

    def __init__(self, ledger: SweepLogMirror, board: TrialStatusWriter) -> None:
        super().__init__()
        self._ledger = ledger
        self._board = board
        self._judge = EarlyStopper(ledger.sweep)

    def on_trial_result(self, _: "TuneController", trial: Trial, result: dict[str, Any]) -> str:
        """Whether the trial goes on; called by Tune with the result flattened."""
        number, epoch = int(trial.config["number"]), int(result["epoch"])
        history = self._ledger.sweep
        if epoch <= history.trials[number].last_epoch:
            return TrialScheduler.CONTINUE  # a process that took over tells it again
        named = {one.metric: result.get(f"values/{one.metric}") for one in history.spec.objectives}
        values = {metric: float(value) for metric, value in named.items() if value is not None}
        goes_on = (
            self._judge.should_continue(number, epoch=epoch, values=values) or result["is_over"]
        )
        judged = TrialJudged(number=number, epoch=epoch, values=values, should_continue=goes_on)
        if goes_on:
            self._ledger.append(judged)
            return TrialScheduler.CONTINUE
        self._ledger.append(judged, history.build_ended(number, "stopped", last=judged))
        log.info("Trial %d is stopped after epoch %d: %s.", number, epoch, values)
        return TrialScheduler.STOP

    def choose_trial_to_run(self, tune_controller: "TuneController") -> Trial | None:
        """The next one in line; called by Tune at every turn, so notices are kept here."""
        self._board.poll()
        return super().choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """The judge's own words."""
        return self._judge.debug_string()
