"""Decides when a checkpoint is written, so that a run can always resume."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mmcv.runner import Hook

from configs.spec.compute import Checkpoints
from configs.spec.dataset import ClassNames
from workers import distributed
from workers.checkpoints.store import CheckpointStore
from workers.errors import Superseded
from workers.evaluation.coco import CocoMetrics
from workers.training.resume import Checkpoint, build_checkpoint, extract_student


class StatefulHook(Protocol):
    """A hook whose state is stored in checkpoints, as plain values."""

    def state_dict(self) -> dict[str, Any]:
        """The state, as values that `torch.load(weights_only=True)` accepts."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned in an earlier attempt."""


class CheckpointsHook(Hook):
    """Writes a checkpoint after every epoch, and within one as the spec says; main process only."""

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
        self._stateful_hooks = stateful_hooks
        self._last_save_s = time.monotonic()
        self._is_superseded = False
        self.best_map = -1.0
        self.best_epoch: int | None = None

    def after_train_iter(self, runner: Any) -> None:
        """Write a checkpoint within an epoch if one is due."""
        is_last_of_epoch = runner.inner_iter + 1 == runner.data_loader.batch_sampler.steps_per_epoch
        if not is_last_of_epoch and self._is_due(runner.iter + 1):
            self.save_mid_epoch(runner)

    def save_mid_epoch(self, runner: Any) -> None:
        """Write a checkpoint after a step that does not end an epoch."""
        self._save(runner, epoch=runner.epoch, step=runner.iter + 1, ends_epoch=False)

    def after_train_epoch(self, runner: Any) -> None:
        """Write a checkpoint that starts the next epoch."""
        self._save(runner, epoch=runner.epoch + 1, step=runner.iter, ends_epoch=True)
        self._raise_if_superseded()

    def after_evaluation(self, runner: Any, metrics: CocoMetrics) -> None:
        """Store the student if this evaluation is among the best so far."""
        if metrics.mean_ap > self.best_map:
            self.best_map = metrics.mean_ap
            self.best_epoch = runner.epoch + 1
        if distributed.is_main_process():
            student = extract_student(
                self._build_checkpoint(runner, epoch=runner.epoch + 1, step=runner.iter)
            )
            with self._note_superseded():
                self._store.save_student(
                    student, step=runner.iter, epoch=runner.epoch + 1, mean_ap=metrics.mean_ap
                )
        self._raise_if_superseded()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the best score and the state of the other hooks."""
        self.best_map = float(state["best_map"])
        self.best_epoch = state["best_epoch"]
        for name, hook in self._stateful_hooks.items():
            hook.load_state_dict(state[name])

    def _is_due(self, step: int) -> bool:
        steps, minutes = self._policy.every_steps, self._policy.every_minutes
        if steps is not None and step % steps == 0:
            return True
        return minutes is not None and time.monotonic() - self._last_save_s >= minutes * 60.0

    def _save(self, runner: Any, *, epoch: int, step: int, ends_epoch: bool) -> None:
        self._last_save_s = time.monotonic()
        if distributed.is_main_process():
            checkpoint = self._build_checkpoint(runner, epoch=epoch, step=step)
            with self._note_superseded():
                self._store.save_resume(checkpoint, step=step, epoch=epoch, ends_epoch=ends_epoch)

    @contextmanager
    def _note_superseded(self) -> Iterator[None]:
        """Of several processes, only the main one notices: they raise together, in `StopHook` or
        `_raise_if_superseded`."""
        try:
            yield
        except Superseded:
            if distributed.get_world_size() == 1:
                raise
            self._is_superseded = True

    def _raise_if_superseded(self) -> None:
        """Raise `Superseded` in all processes; a collective."""
        if distributed.broadcast_object(self._is_superseded):
            raise Superseded("A newer attempt of this run has taken over.")

    def _build_checkpoint(self, runner: Any, *, epoch: int, step: int) -> Checkpoint:
        hook_states: dict[str, Any] = {"best_map": self.best_map, "best_epoch": self.best_epoch}
        for name, hook in self._stateful_hooks.items():
            hook_states[name] = hook.state_dict()
        return build_checkpoint(
            runner,
            identity=self._identity,
            classes=self._classes,
            epoch=epoch,
            step=step,
            hook_states=hook_states,
        )
