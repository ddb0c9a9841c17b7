"""Evaluates the student on the validation images during training."""

from contextlib import nullcontext
from typing import Any

from mmcv.runner import Hook
from torch.utils.data import DataLoader

from configs.metric_keys import Metric
from configs.spec.run import Evaluation
from workers import distributed
from workers.attempt.stop import Termination, raise_if_stopped
from workers.evaluation.coco import CocoMetrics, evaluate
from workers.evaluation.timing import Throughput
from workers.telemetry.protocol import Reporter
from workers.training.hooks.checkpoints import CheckpointsHook
from workers.training.hooks.progress import ProgressHook


class EvaluationHook(Hook):
    """Evaluates every so many epochs and after the last one; keeps the best evaluation.

    It also reports the speed of the student, in images per second of this process without loading.
    """

    def __init__(
        self,
        reporter: Reporter,
        *,
        loader: DataLoader[Any],
        checkpoints: CheckpointsHook,
        evaluation: Evaluation,
        progress: ProgressHook,
        termination: Termination,
    ) -> None:
        self._reporter = reporter
        self._loader = loader
        self._checkpoints = checkpoints
        self._evaluation = evaluation
        self._progress = progress
        self._termination = termination
        self.best: CocoMetrics | None = None
        """Best evaluation of this attempt; None until the first one."""

    def after_train_epoch(self, runner: Any) -> None:
        """Evaluate if it is due, report the metrics, and store the student if it is the best.

        With an EMA, the student is the one with the averaged weights.
        """
        epoch = runner.epoch + 1
        if epoch % self._evaluation.every_epochs and epoch != runner.max_epochs:
            return
        self._progress.report_evaluating(runner)
        with nullcontext() if runner.ema is None else runner.ema.applied():
            self._evaluate(runner)
        self._reporter.heartbeat.beat("training")

    def _evaluate(self, runner: Any) -> None:
        throughput = Throughput()
        metrics = evaluate(
            distributed.unwrap_ddp(runner.model),
            self._loader,
            device=next(runner.model.parameters()).device,
            max_detections=self._evaluation.max_detections,
            on_batch=self._after_batch,
            throughput=throughput,
        )
        report_metrics(self._reporter, metrics, side="val", step=runner.iter)
        speed = {str(Metric.INFERENCE_IMAGES_PER_S): throughput.images_per_s}
        self._reporter.report_metrics(step=runner.iter, values=speed)
        if self.best is None or metrics.mean_ap > self.best.mean_ap:
            self.best = metrics
        self._checkpoints.after_evaluation(runner, metrics)

    def _after_batch(self) -> None:
        self._reporter.heartbeat.beat()
        # Several processes stop together, after the next training step.
        if distributed.get_world_size() == 1:
            raise_if_stopped(self._reporter, termination=self._termination)


def report_metrics(reporter: Reporter, metrics: CocoMetrics, *, side: str, step: int) -> None:
    """Report COCO metrics as `<side>/<metric>`, where `side` is `val` or `teacher`."""
    reporter.report_metrics(
        step=step, values={f"{side}/{name}": value for name, value in metrics.by_metric.items()}
    )
