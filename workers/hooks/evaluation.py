"""Measures the student on the validation images while it trains."""

from typing import Any

import torch
from mmcv.runner import Hook
from torch.utils.data import DataLoader

from configs.spec import Metric
from workers import processes
from workers.evaluation import Scores, evaluate
from workers.hooks.checkpoints import CheckpointsHook
from workers.hooks.control import Termination, leave_if_unwanted
from workers.reporting.voice import Voice
from workers.timing import Stopwatch


class EvaluationHook(Hook):
    """Evaluates every so many epochs and after the last; keeps the best evaluation.

    It also says how fast the student is: images a second of this process, loading not counted.
    """

    def __init__(
        self,
        voice: Voice,
        *,
        loader: DataLoader[Any],
        checkpoints: CheckpointsHook,
        every_epochs: int,
        termination: Termination,
        device: torch.device,
    ) -> None:
        self._voice = voice
        self._loader = loader
        self._checkpoints = checkpoints
        self._every_epochs = every_epochs
        self._termination = termination
        self._device = device
        self.best: Scores | None = None

    def after_train_epoch(self, runner: Any) -> None:
        """Evaluate, say the scores, keep the best checkpoint."""
        epoch = runner.epoch + 1
        if epoch % self._every_epochs and epoch != runner.max_epochs:
            return
        self._say_progress(runner)
        watch = Stopwatch(processes.bare(runner.model))
        scores = evaluate(
            watch,
            self._loader,
            device=self._device,
            on_batch=self._after_batch,
        )
        say_scores(self._voice, scores, side="val", step=runner.iter)
        pace = {str(Metric.INFERENCE_IMAGES_PER_S): watch.images_per_s}
        self._voice.metrics(step=runner.iter, values=pace)
        if self.best is None or scores.mean_ap > self.best.mean_ap:
            self.best = scores
        self._checkpoints.after_evaluation(runner, scores)
        self._voice.pulse.beat("training")

    def _say_progress(self, runner: Any) -> None:
        self._voice.progress(
            phase="evaluating",
            epoch=runner.epoch + 1,
            epochs=runner.max_epochs,
            step=runner.iter,
            steps=runner.max_iters,
            eta_s=None,
        )

    def _after_batch(self) -> None:
        self._voice.pulse.beat()
        # Several processes leave together, and that is after the next step.
        if processes.count() == 1:
            leave_if_unwanted(self._voice, termination=self._termination)


def say_scores(voice: Voice, scores: Scores, *, side: str, step: int) -> None:
    """Report COCO's numbers under `val/` or `teacher/`."""
    voice.metrics(
        step=step, values={f"{side}/{name}": value for name, value in scores.by_metric.items()}
    )
