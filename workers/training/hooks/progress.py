"""Reports the progress of training and the estimated time left."""

import time
from typing import Any

from mmcv.runner import Hook

from workers.telemetry.protocol import Phase, Reporter


class ProgressHook(Hook):
    """Reports epoch, step and the time left, at most every `interval_s` seconds."""

    def __init__(self, reporter: Reporter, *, interval_s: float) -> None:
        self._reporter = reporter
        self._interval_s = interval_s
        self._first_step = 0
        self._start_s = 0.0
        self._last_report_s = 0.0

    def before_run(self, runner: Any) -> None:
        """Store the step and the time at which this attempt starts."""
        self._first_step = runner.iter
        self._start_s = time.monotonic()

    def after_train_iter(self, runner: Any) -> None:
        """Report the progress, unless the last report is newer than `interval_s`."""
        self._reporter.heartbeat.beat("training")
        now_s = time.monotonic()
        if now_s - self._last_report_s < self._interval_s:
            return
        self._last_report_s = now_s
        self._report(runner, phase="training", current_step=runner.iter + 1)

    def report_evaluating(self, runner: Any) -> None:
        """Report that the steps of an epoch are done and its student is evaluated."""
        self._report(runner, phase="evaluating", current_step=runner.iter)

    def _report(self, runner: Any, *, phase: Phase, current_step: int) -> None:
        self._reporter.report_progress(
            phase=phase,
            epoch=runner.epoch + 1,
            epochs=runner.max_epochs,
            step=current_step,
            steps=runner.max_iters,
            eta_s=self.estimate_time_left_s(current_step=current_step, steps=runner.max_iters),
        )

    def estimate_time_left_s(self, *, current_step: int, steps: int) -> float | None:
        """Seconds until `steps` at the mean speed of this attempt; None before its first step."""
        if current_step == self._first_step:
            return None
        step_s = (time.monotonic() - self._start_s) / (current_step - self._first_step)
        return step_s * (steps - current_step)
