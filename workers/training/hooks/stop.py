"""Stops training on request, in all processes after the same step."""

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
    """Ends the loop between two steps, after a checkpoint has been written."""

    def __init__(
        self,
        source: StopSource,
        *,
        termination: Termination,
        checkpoints: CheckpointsHook,
        device: torch.device,
    ) -> None:
        self._source = source
        self._termination = termination
        self._checkpoints = checkpoints
        self._device = device

    def after_train_iter(self, runner: Any) -> None:
        """Raise `Superseded`, `StopRequested` or `Preempted` if this attempt has to end."""
        local_signal = stop_signal(self._source, self._termination)
        signal = distributed.all_reduce_max(local_signal, device=self._device)
        is_last_of_epoch = runner.inner_iter + 1 == runner.data_loader.batch_sampler.steps_per_epoch
        if FIRST_STOP_REQUEST <= signal <= TERMINATE and not is_last_of_epoch:
            self._checkpoints.save_mid_epoch(runner)
        raise_for_signal(signal)
