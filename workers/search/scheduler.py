"""The scheduler of a sweep: writes each decision to the log before Ray Tune gets it."""

import logging
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from configs.protocol.sweep_log import TrialJudged
from workers.search.early_stopping import EarlyStopper
from workers.search.sweep_log import SweepLogMirror
from workers.search.trial_status import TrialStatusWriter
from workers.telemetry.log_lines import format_values

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

log = logging.getLogger(__name__)


class LoggedScheduler(FIFOScheduler):
    """A Tune scheduler that decides by an `EarlyStopper` and logs its decisions."""

    def __init__(self, log_mirror: SweepLogMirror, status_writer: TrialStatusWriter) -> None:
        super().__init__()
        self._log_mirror = log_mirror
        self._status_writer = status_writer
        self._early_stopper = EarlyStopper(log_mirror.sweep)

    def on_trial_result(self, _: "TuneController", trial: Trial, result: dict[str, Any]) -> str:
        """Decide whether the trial continues; called by Tune with a flattened result."""
        number, epoch = int(trial.config["number"]), int(result["epoch"])
        sweep = self._log_mirror.sweep
        if epoch <= sweep.trials[number].last_epoch:
            return TrialScheduler.CONTINUE  # reported again by a restarted monitor
        by_metric = {
            objective.metric: result.get(f"values/{objective.metric}")
            for objective in sweep.spec.objectives
        }
        values = {metric: float(value) for metric, value in by_metric.items() if value is not None}
        should_continue = (
            self._early_stopper.should_continue(number, epoch=epoch, values=values)
            or result["is_over"]
        )
        judgment = TrialJudged(
            number=number, epoch=epoch, values=values, should_continue=should_continue
        )
        if should_continue:
            self._log_mirror.append(judgment)
            return TrialScheduler.CONTINUE
        self._log_mirror.append(judgment, sweep.build_ended(number, "stopped", last=judgment))
        log.info("Trial %d is stopped after epoch %d: %s.", number, epoch, format_values(values))
        return TrialScheduler.STOP

    def choose_trial_to_run(self, tune_controller: "TuneController") -> Trial | None:
        """Update the status files and return the next trial; Tune calls this repeatedly."""
        self._status_writer.poll()
        return super().choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """Tune's description of the early stopper's state."""
        return self._early_stopper.debug_string()
