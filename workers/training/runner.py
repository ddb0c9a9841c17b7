"""mmcv's epoch-based runner, able to begin in the middle of an epoch, with steps made of parts."""

from collections.abc import Sequence
from typing import Any

from mmcv.runner import EpochBasedRunner

from workers.data.batches import Batch
from workers.training.step import TrainStep


class Runner(EpochBasedRunner):
    """Runs mmcv's hooks around our own step.

    `iter` counts optimizer steps since the run began, `inner_iter` since the epoch began. It is
    driven from outside, by `workers.training.loop`, which has the batches. Beside mmcv's it leaves
    out pauses of 2 s an epoch, which guard loaders that we do not use.
    """

    def __init__(self, *, train_step: TrainStep, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.train_step = train_step

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is over."""
        return bool(self._epoch >= self._max_epochs)

    def resume_from(self, *, epoch: int, step: int) -> None:
        """Begin after `epoch` whole epochs and `step` steps in all."""
        self._epoch = epoch
        self._iter = step

    def begin(self, *, steps_per_epoch: int) -> None:
        """Before the first epoch of this attempt."""
        self._max_iters = self._max_epochs * steps_per_epoch
        self.call_hook("before_run")

    def begin_epoch(self, loader: Any) -> None:
        """Before the first step of an epoch, or of what is left of it."""
        self.model.train()
        self.mode = "train"
        self.data_loader = loader
        self._inner_iter = self._iter - self._epoch * loader.batch_sampler.steps
        self.call_hook("before_train_epoch")

    def run_iter(self, micro_batches: Sequence[Batch]) -> None:
        """One step on a batch, which is on the model's device already."""
        self.data_batch = micro_batches
        self.call_hook("before_train_iter")
        self.outputs = self.train_step.step(micro_batches, number=self._iter + 1)
        self.call_hook("after_train_iter")
        del self.data_batch
        self._iter += 1
        self._inner_iter += 1

    def end_epoch(self) -> None:
        """After the last step of an epoch."""
        self.call_hook("after_train_epoch")
        self._epoch += 1

    def end(self) -> None:
        """After the last epoch."""
        self.call_hook("after_run")
