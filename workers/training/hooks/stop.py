"""The way out of the training loop, for runs that are to end; all processes leave together."""

from typing import Any

import torch
from mmcv.runner import Hook

from workers import distributed
from workers.attempt.stop import (
    FIRST_STOP_REQUEST,
    TERMINATE,
    StopSource,
    Termination,
    raise_for_signal,
    stop_signal,
)
from workers.training.hooks.checkpoints import CheckpointsHook


class StopHook(Hook):
    """Ends the loop between two steps; what was learned is written down before."""

    def __init__(
        self,
        orders: StopSource,
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
        order = stop_signal(self._orders, self._termination)
        agreed = distributed.all_reduce_max(order, device=self._device)
        is_last_of_epoch = runner.inner_iter + 1 == runner.data_loader.batch_sampler.steps
        if FIRST_STOP_REQUEST <= agreed <= TERMINATE and not is_last_of_epoch:
            self._checkpoints.save_between(runner)
        raise_for_signal(agreed)
