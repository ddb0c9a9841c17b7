"""The way out of the training loop, for runs that are to end; all processes leave together."""

from typing import Any

import torch
from mmcv.runner import Hook

from workers import distributed
from workers.attempt.stop import _FIRST_STOP, _TERMINATE, Orders, Termination, _leave, _order
from workers.training.hooks.checkpoints import CheckpointsHook


class ControlHook(Hook):
    """Ends the loop between two steps; what was learned is written down before."""

    def __init__(
        self,
        orders: Orders,
        *,
        termination: Termination,
        checkpoints: CheckpointsHook,
        device: torch.device,
    ) -> None:
        self._orders = orders
        self._termination = termination
        self._checkpoints = checkpoints
        self._device = device

    def after_train_iter(self, runner: Any) -> None:
        """`Superseded`, `StopRequested` or `Preempted` if this attempt is to end."""
        order = _order(self._orders, self._termination)
        agreed = distributed.largest(order, device=self._device)
        is_last_of_epoch = runner.inner_iter + 1 == runner.data_loader.batch_sampler.steps
        if _FIRST_STOP <= agreed <= _TERMINATE and not is_last_of_epoch:
            self._checkpoints.save_between(runner)
        _leave(agreed)
