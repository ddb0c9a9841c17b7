"""Reports loss terms, learning rate and speed of training."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from mmcv.runner import Hook

from configs.metric_keys import Metric
from workers.telemetry.protocol import Reporter


class MetricsHook(Hook):
    """Reports means over intervals of steps; an interval never spans two epochs."""

    def __init__(
        self,
        reporter: Reporter,
        *,
        interval_steps: int,
        read_values: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """`read_values` returns further values of an interval's last step, by metric key."""
        self._reporter = reporter
        self._interval_steps = interval_steps
        self._read_values = read_values
        self._sums: dict[str, float] = {}
        self._start_interval()

    def state_dict(self) -> dict[str, Any]:
        """The sums and the number of steps of an unfinished interval."""
        return {"sums": dict(self._sums), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue an interval; its speed is measured over the steps of this attempt only."""
        self._start_interval()
        self._sums = dict(state["sums"])
        self._steps = int(state["steps"])

    def before_train_epoch(self, _runner: Any) -> None:
        """Do not count the time before an epoch's first step, as that of an evaluation."""
        self._start_s = time.monotonic()

    def after_train_iter(self, runner: Any) -> None:
        """Add one step, and report the means at the end of an interval."""
        for name, value in runner.outputs["log_vars"].items():
            if "loss" in name:
                self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._images += runner.outputs["num_samples"]
        is_last = runner.inner_iter + 1 == runner.data_loader.batch_sampler.steps_per_epoch
        if self._steps == self._interval_steps or is_last:
            self._report(runner)

    def _report(self, runner: Any) -> None:
        values = {f"train/{name}": total / self._steps for name, total in self._sums.items()}
        values[Metric.LEARNING_RATE] = runner.current_lr()[0]
        if runner.ema is not None:
            values[Metric.EMA_DECAY] = runner.ema.decay(runner.iter + 1)
        values[Metric.IMAGES_PER_S] = self._images / (time.monotonic() - self._start_s)
        values |= self._read_values()
        self._reporter.report_metrics(step=runner.iter + 1, values=values)
        self._start_interval()

    def _start_interval(self) -> None:
        self._sums = {}
        self._steps = self._images = 0
        self._start_s = time.monotonic()
