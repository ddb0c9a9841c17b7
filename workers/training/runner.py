"""mmcv's epoch-based runner, which can start within an epoch and accumulates gradients."""

from collections.abc import Sequence
from typing import Any

from mmcv.runner import EpochBasedRunner

from workers.data.batches import Batch
from workers.training.ema import ModelEma
from workers.training.step import TrainStep


class Runner(EpochBasedRunner):
    """Calls mmcv's hooks around `TrainStep`.

    `iter` counts optimizer steps since the run started, `inner_iter` since the epoch started.
    `workers.training.loop` owns the batches and drives the runner. mmcv's pauses of 2 s an epoch,
    which protect loaders that we do not use, are left out.
    """

    def __init__(
        self, *, train_step: TrainStep, ema: ModelEma | None = None, **kwargs: Any
    ) -> None:
        """`ema` is None unless the student's weights are averaged."""
        super().__init__(**kwargs)
        self.train_step = train_step
        self.ema = ema

    @property
    def is_done(self) -> bool:
        """Whether the runner has completed its last epoch."""
        return bool(self._epoch >= self._max_epochs)

    def resume_from(self, *, epoch: int, step: int) -> None:
        """Continue after `epoch` complete epochs and `step` steps, counted over all epochs."""
        self._epoch = epoch
        self._iter = step

    def begin(self, *, steps_per_epoch: int) -> None:
        """Run the `before_run` hooks, before the first epoch of this attempt."""
        self._max_iters = self._max_epochs * steps_per_epoch
        self.call_hook("before_run")

    def begin_epoch(self, loader: Any) -> None:
        """Run the `before_train_epoch` hooks, also where an attempt resumes within an epoch."""
        self.model.train()
        self.mode = "train"
        self.data_loader = loader
        self._inner_iter = self._iter - self._epoch * loader.batch_sampler.steps_per_epoch
        self.call_hook("before_train_epoch")

    def run_iter(self, micro_batches: Sequence[Batch]) -> None:
        """Run one optimizer step; the micro-batches must be on the model's device."""
        self.data_batch = micro_batches
        self.call_hook("before_train_iter")
        self.outputs = self.train_step.step(micro_batches, number=self._iter + 1)
        if self.ema is not None:
            self.ema.update(step=self._iter + 1)
        self.call_hook("after_train_iter")
        del self.data_batch
        self._iter += 1
        self._inner_iter += 1

    def end_epoch(self) -> None:
        """Run the `after_train_epoch` hooks, then count the epoch."""
        self.call_hook("after_train_epoch")
        self._epoch += 1

    def end(self) -> None:
        """Run the `after_run` hooks, after the last epoch."""
        self.call_hook("after_run")
