"""How far training is and how long it will take, to the reporter."""

import time
from typing import Any

from mmcv.runner import Hook

from workers.telemetry.protocol import Phase, Reporter


class ProgressHook(Hook):
    """Says epoch, step and the time left, at most every `interval_s`."""

    def __init__(self, reporter: Reporter, *, interval_s: float) -> None:
        self._voice = reporter
        self._interval_s = interval_s
        self._first_step = 0
        self._began_s = 0.0
        self._said_s = 0.0

    def before_run(self, runner: Any) -> None:
        """Remember where this attempt began."""
        self._first_step = runner.iter
        self._began_s = time.monotonic()

    def after_train_iter(self, runner: Any) -> None:
        """Say how far it is, if the last word is old enough."""
        self._voice.heartbeat.beat("training")
        now_s = time.monotonic()
        if now_s - self._said_s < self._interval_s:
            return
        self._said_s = now_s
        self._say(runner, phase="training", done=runner.iter + 1)

    def report_evaluating(self, runner: Any) -> None:
        """Say that an epoch's steps are done and its student is measured."""
        self._say(runner, phase="evaluating", done=runner.iter)

    def _say(self, runner: Any, *, phase: Phase, done: int) -> None:
        self._voice.report_progress(
            phase=phase,
            epoch=runner.epoch + 1,
            epochs=runner.max_epochs,
            step=done,
            steps=runner.max_iters,
            eta_s=self.estimate_time_left_s(current_step=done, steps=runner.max_iters),
        )

    def estimate_time_left_s(self, *, current_step: int, steps: int) -> float | None:
        """Seconds until `steps`, at the mean pace of this attempt; none: it has made no step."""
        if current_step == self._first_step:
            return None
        pace_s = (time.monotonic() - self._began_s) / (current_step - self._first_step)
        return pace_s * (steps - current_step)
