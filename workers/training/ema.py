"""The exponential moving average (EMA) of a student's weights."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from configs.spec.schedule import Ema
from workers import distributed
from workers.checkpoints.files import ADAPTERS, StateDict


class ModelEma:
    """Averages all floating-point weights and buffers of a student in its state dict.

    Feature adapters of a method are left out: they are no part of the detector. Counters, as the
    number of batches of a batch norm, are those of the student itself.
    """

    def __init__(self, model: nn.Module, ema: Ema) -> None:
        self._model = model
        self._ema = ema
        self._weights = {name: tensor.clone() for name, tensor in self._model_weights().items()}
        """By name in the state dict, on the model's device."""

    def decay(self, step: int) -> float:
        """The weight of the average at a step, counted from 1, against the step's weights.

        It rises from 0 to the configured decay, as in mmdet's `ExpMomentumEMAHook` and in YOLOX.
        """
        return self._ema.decay * -math.expm1(-step / self._ema.warmup_steps)

    def update(self, *, step: int) -> None:
        """Move the average towards the weights after `step`, counted from 1."""
        current = self._model_weights()
        move_average = get_ema_multi_avg_fn(self.decay(step))
        move_average(list(self._weights.values()), list(current.values()), None)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights, and its own ones again at the end; a collective.

        Averages of buffers are those of rank 0: each process has statistics of its own images.
        """
        current = self._model_weights()
        distributed.broadcast_tensors(list(self._weights.values()))
        trained = {name: tensor.clone() for name, tensor in current.items()}
        _copy(self._weights, current)
        try:
            yield
        finally:
            _copy(trained, current)

    def state_dict(self) -> StateDict:
        """Copies of the averaged weights on the CPU."""
        return {name: tensor.cpu().clone() for name, tensor in self._weights.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the average from a state dict, which may have more names."""
        _copy({name: state[name] for name in self._weights}, self._weights)

    @property
    def num_bytes(self) -> int:
        """Size of the averaged weights."""
        return sum(tensor.nbytes for tensor in self._weights.values())

    def _model_weights(self) -> StateDict:
        return {
            name: tensor
            for name, tensor in self._model.state_dict().items()
            if tensor.is_floating_point() and not name.startswith(ADAPTERS)
        }


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in source.items():
            target[name].copy_(tensor)
