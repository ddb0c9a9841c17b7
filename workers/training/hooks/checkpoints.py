"""When a run is written down, so that it can always go on."""

import time
from typing import Any, Protocol

from mmcv.runner import Hook

from configs.spec.compute import Checkpoints
from configs.spec.dataset import ClassNames
from workers import distributed
from workers.checkpoints.store import CheckpointStore
from workers.evaluation.coco import CocoMetrics
from workers.training.resume import Checkpoint, build_checkpoint, extract_student


class StatefulHook(Protocol):
    """A hook whose state belongs to a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""


class CheckpointsHook(Hook):
    """Writes a checkpoint after every epoch and in between; the first process does, for all."""

    def __init__(
        self,
        store: CheckpointStore,
        *,
        policy: Checkpoints,
        identity: dict[str, Any],
        classes: ClassNames,
        stateful_hooks: dict[str, StatefulHook],
    ) -> None:
        self._store = store
        self._policy = policy
        self._identity = identity
        self._classes = classes
        self._remembers = stateful_hooks
        self._written_s = time.monotonic()
        self.best_map = -1.0
        self.best_epoch: int | None = None

    def after_train_iter(self, runner: Any) -> None:
        """Write in the middle of an epoch, if it is time."""
        is_last_of_epoch = runner.inner_iter + 1 == runner.data_loader.batch_sampler.steps
        if not is_last_of_epoch and self._is_due(runner.iter + 1):
            self.save_mid_epoch(runner)

    def save_mid_epoch(self, runner: Any) -> None:
        """Write after a step of an unfinished epoch."""
        self._save(runner, epoch=runner.epoch, step=runner.iter + 1, ends_epoch=False)

    def after_train_epoch(self, runner: Any) -> None:
        """Write after every epoch."""
        self._save(runner, epoch=runner.epoch + 1, step=runner.iter, ends_epoch=True)

    def after_evaluation(self, runner: Any, scores: CocoMetrics) -> None:
        """Keep the student if this evaluation is among the best so far."""
        if scores.mean_ap > self.best_map:
            self.best_map = scores.mean_ap
            self.best_epoch = runner.epoch + 1
        if distributed.is_main_process():
            student = extract_student(
                self._checkpoint(runner, epoch=runner.epoch + 1, step=runner.iter)
            )
            self._store.save_student(
                student, step=runner.iter, epoch=runner.epoch + 1, mean_ap=scores.mean_ap
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what an earlier attempt remembered."""
        self.best_map = float(state["best_map"])
        self.best_epoch = state["best_epoch"]
        for name, hook in self._remembers.items():
            hook.load_state_dict(state[name])

    def _is_due(self, step: int) -> bool:
        steps, minutes = self._policy.every_steps, self._policy.every_minutes
        if steps is not None and step % steps == 0:
            return True
        return minutes is not None and time.monotonic() - self._written_s >= minutes * 60.0

    def _save(self, runner: Any, *, epoch: int, step: int, ends_epoch: bool) -> None:
        self._written_s = time.monotonic()
        if distributed.is_main_process():
            checkpoint = self._checkpoint(runner, epoch=epoch, step=step)
            self._store.save_resume(checkpoint, step=step, epoch=epoch, ends_epoch=ends_epoch)

    def _checkpoint(self, runner: Any, *, epoch: int, step: int) -> Checkpoint:
        memory = {"best_map": self.best_map, "best_epoch": self.best_epoch}
        return build_checkpoint(
            runner,
            identity=self._identity,
            classes=self._classes,
            epoch=epoch,
            step=step,
            hook_states=memory
            | {name: hook.state_dict() for name, hook in self._remembers.items()},
        )
