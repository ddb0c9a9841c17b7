"""The last epoch and the best one, as checkpoints that mmdet can load."""

from pathlib import Path
from typing import Any

from mmcv.runner import Hook
from mmcv.runner.checkpoint import get_state_dict, weights_to_cpu

from configs.spec import RunFile, RunSpec
from workers.checkpoints import save_atomically
from workers.evaluation import Scores


class CheckpointsHook(Hook):
    """Writes `last.pth`, which training resumes from, after every epoch."""

    def __init__(self, run_dir: Path, *, spec: RunSpec, classes: tuple[str, ...]) -> None:
        self._run_dir = run_dir
        self._spec = spec
        self._classes = classes
        self.best_map = -1.0
        self.best_epoch: int | None = None

    def after_train_epoch(self, runner: Any) -> None:
        """Write the last checkpoint."""
        self._save(runner, RunFile.LAST, with_optimizer=True)

    def after_evaluation(self, runner: Any, scores: Scores) -> None:
        """Write the best checkpoint if this evaluation is the best so far."""
        if scores.mean_ap <= self.best_map:
            return
        self.best_map = scores.mean_ap
        self.best_epoch = runner.epoch + 1
        self._save(runner, RunFile.BEST, with_optimizer=False)

    def restore(self, meta: dict[str, Any]) -> None:
        """Take over the best score of an earlier attempt."""
        self.best_map = float(meta["best_map"])
        self.best_epoch = meta["best_epoch"]

    def _save(self, runner: Any, file: RunFile, *, with_optimizer: bool) -> None:
        checkpoint = {
            "meta": {
                "CLASSES": self._classes,
                "epoch": runner.epoch + 1,
                "iter": runner.iter,
                "best_map": self.best_map,
                "best_epoch": self.best_epoch,
                "spec": self._spec.model_dump_json(),
            },
            "state_dict": weights_to_cpu(get_state_dict(runner.model.module)),
        }
        if with_optimizer:
            checkpoint["optimizer"] = runner.optimizer.state_dict()
        save_atomically(checkpoint, self._run_dir / file)
