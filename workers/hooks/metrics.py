"""Loss terms, learning rate and speed of the training loop, to the reporter."""

import time
from typing import Any

from mmcv.runner import Hook

from configs.spec import Metric
from workers.reporting.reporter import Reporter

_METRIC_BY_LOSS = {
    "loss": Metric.LOSS,
    "loss_cls": Metric.LOSS_CLS,
    "loss_bbox": Metric.LOSS_BBOX,
    "loss_dfl": Metric.LOSS_DFL,
    "loss_distill_cls": Metric.LOSS_DISTILL_CLS,
    "loss_distill_loc": Metric.LOSS_DISTILL_LOC,
}


class MetricsHook(Hook):
    """Says means over an interval of steps; an interval never spans two epochs."""

    def __init__(self, reporter: Reporter, *, interval_steps: int) -> None:
        self._reporter = reporter
        self._interval_steps = interval_steps
        self._sums: dict[Metric, float] = {}
        self._steps = 0
        self._images = 0
        self._since_s = 0.0

    def before_train_epoch(self, _runner: Any) -> None:
        """Begin a new interval."""
        self._begin()

    def after_train_iter(self, runner: Any) -> None:
        """Add one step, and say the means at the end of an interval."""
        losses = runner.outputs["log_vars"]
        for name, metric in _METRIC_BY_LOSS.items():
            if name in losses:
                self._sums[metric] = self._sums.get(metric, 0.0) + losses[name]
        self._steps += 1
        self._images += runner.outputs["num_samples"]
        if self._steps == self._interval_steps or runner.inner_iter + 1 == len(runner.data_loader):
            self._say(runner)

    def _say(self, runner: Any) -> None:
        values = {str(metric): total / self._steps for metric, total in self._sums.items()}
        values[Metric.LEARNING_RATE] = runner.current_lr()[0]
        values[Metric.IMAGES_PER_S] = self._images / (time.monotonic() - self._since_s)
        self._reporter.metrics(step=runner.iter + 1, values=values)
        self._begin()

    def _begin(self) -> None:
        self._sums = {}
        self._steps = self._images = 0
        self._since_s = time.monotonic()
