"""Loss terms, learning rate and speed of the training loop, to the reporter."""

import time
from typing import Any

from mmcv.runner import Hook

from configs.protocol.names import Metric
from workers.telemetry.protocol import Reporter


class MetricsHook(Hook):
    """Says means over an interval of steps; an interval never spans two epochs."""

    def __init__(self, reporter: Reporter, *, interval_steps: int) -> None:
        self._voice = reporter
        self._interval_steps = interval_steps
        self._sums: dict[str, float] = {}
        self._begin()

    def state_dict(self) -> dict[str, Any]:
        """The sums of an unfinished interval."""
        return {"sums": dict(self._sums), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with an interval; its speed is measured over the steps of this attempt."""
        self._begin()
        self._sums = dict(state["sums"])
        self._steps = int(state["steps"])

    def before_train_epoch(self, _runner: Any) -> None:
        """The time before the first step is not the steps'."""
        self._since_s = time.monotonic()

    def after_train_iter(self, runner: Any) -> None:
        """Add one step, and say the means at the end of an interval."""
        for name, value in runner.outputs["log_vars"].items():
            if "loss" in name:
                self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._images += runner.outputs["num_samples"]
        is_last = runner.inner_iter + 1 == runner.data_loader.batch_sampler.steps
        if self._steps == self._interval_steps or is_last:
            self._say(runner)

    def _say(self, runner: Any) -> None:
        values = {f"train/{name}": total / self._steps for name, total in self._sums.items()}
        values[Metric.LEARNING_RATE] = runner.current_lr()[0]
        values[Metric.IMAGES_PER_S] = self._images / (time.monotonic() - self._since_s)
        self._voice.report_metrics(step=runner.iter + 1, values=values)
        self._begin()

    def _begin(self) -> None:
        self._sums = {}
        self._steps = self._images = 0
        self._since_s = time.monotonic()
