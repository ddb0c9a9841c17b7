"""mmcv's epoch-based runner, able to begin in the middle of an epoch, with steps made of parts."""

import itertools
from typing import Any

from mmcv.runner import EpochBasedRunner

from workers.stepping import Stepper


class Runner(EpochBasedRunner):
    """Runs mmcv's hooks around our own step.

    `iter` counts optimizer steps since the run began, `inner_iter` since the epoch began. Beside
    this it leaves out mmcv's pauses of 2 s an epoch, which guard loaders that we do not use.
    """

    def __init__(self, *, stepper: Stepper, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.stepper = stepper

    def go(self, loader: Any) -> None:
        """Train until the last epoch is over."""
        self._max_iters = self._max_epochs * loader.batch_sampler.steps
        self.call_hook("before_run")
        while self.epoch < self._max_epochs:
            self.train(loader)
        self.call_hook("after_run")

    def go_on_from(self, *, epoch: int, step: int) -> None:
        """Begin after `epoch` whole epochs and `step` steps in all."""
        self._epoch = epoch
        self._iter = step

    def train(self, data_loader: Any, **_: Any) -> None:
        """One epoch, or what is left of it."""
        self.model.train()
        self.mode = "train"
        self.data_loader = data_loader
        order = data_loader.batch_sampler
        self._inner_iter = self._iter - self._epoch * order.steps
        data_loader.dataset.set_epoch(self._epoch)
        order.begin(self._epoch, step=self._inner_iter)
        self.call_hook("before_train_epoch")
        pieces = iter(data_loader)
        while self._inner_iter < order.steps:
            self.data_batch = list(itertools.islice(pieces, order.share.parts))
            self.call_hook("before_train_iter")
            self.outputs = self.stepper.step(self.data_batch, number=self._iter + 1)
            self.call_hook("after_train_iter")
            del self.data_batch
            self._iter += 1
            self._inner_iter += 1
        self.call_hook("after_train_epoch")
        self._epoch += 1
