"""Measures the student on the validation images while it trains."""

from typing import Any

from mmcv.runner import Hook
from torch.utils.data import DataLoader

from configs.protocol.names import Metric
from workers import distributed
from workers.attempt.stop import Termination, raise_if_stopped
from workers.evaluation.coco import CocoMetrics, evaluate
from workers.evaluation.timing import TimedDetector
from workers.telemetry.protocol import Reporter
from workers.training.hooks.checkpoints import CheckpointsHook
from workers.training.hooks.progress import ProgressHook


class EvaluationHook(Hook):
    """Evaluates every so many epochs and after the last; keeps the best evaluation.

    It also says how fast the student is: images a second of this process, loading not counted.
    """

    def __init__(
        self,
        reporter: Reporter,
        *,
        loader: DataLoader[Any],
        checkpoints: CheckpointsHook,
        every_epochs: int,
        progress: ProgressHook,
        termination: Termination,
    ) -> None:
        self._voice = reporter
        self._loader = loader
        self._checkpoints = checkpoints
        self._every_epochs = every_epochs
        self._progress = progress
        self._termination = termination
        self.best: CocoMetrics | None = None

    def after_train_epoch(self, runner: Any) -> None:
        """Evaluate, say the scores, keep the best checkpoint."""
        epoch = runner.epoch + 1
        if epoch % self._every_epochs and epoch != runner.max_epochs:
            return
        self._progress.say_evaluating(runner)
        watch = TimedDetector(distributed.unwrap_ddp(runner.model))
        scores = evaluate(
            watch,
            self._loader,
            device=next(runner.model.parameters()).device,
            on_batch=self._after_batch,
        )
        report_metrics(self._voice, scores, side="val", step=runner.iter)
        pace = {str(Metric.INFERENCE_IMAGES_PER_S): watch.images_per_s}
        self._voice.report_metrics(step=runner.iter, values=pace)
        if self.best is None or scores.mean_ap > self.best.mean_ap:
            self.best = scores
        self._checkpoints.after_evaluation(runner, scores)
        self._voice.heartbeat.beat("training")

    def _after_batch(self) -> None:
        self._voice.heartbeat.beat()
        # Several processes leave together, and that is after the next step.
        if distributed.get_world_size() == 1:
            raise_if_stopped(self._voice, termination=self._termination)


def report_metrics(reporter: Reporter, scores: CocoMetrics, *, side: str, step: int) -> None:
    """Report COCO's numbers under `val/` or `teacher/`."""
    reporter.report_metrics(
        step=step, values={f"{side}/{name}": value for name, value in scores.by_metric.items()}
    )
