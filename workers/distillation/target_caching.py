"""What all heads add to mmdet's: the cached label assignment, and normalizers of the whole batch.

mmdet clamps every normalizer (the number of positives, the sum of their weights) to at least 1 in
each process. Several processes with a shard of a batch each would therefore not learn what one
process learns from the whole batch, above all early in training, when the weights are small. These
heads clamp the normalizer of the whole batch instead. Where a process accumulates gradients over
micro-batches, they estimate the whole batch from one micro-batch.
"""

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from workers import distributed
from workers.process import compat

_micro_batches: ContextVar[int] = ContextVar("micro_batches", default=1)


def sum_over_batch(value: Tensor) -> Tensor:
    """The sum over the whole batch of a value of this process, within a head's `loss`."""
    return distributed.all_reduce_sum(value) * _micro_batches.get()


def count_over_batch(count: float, *, device: torch.device) -> float:
    """The count in the whole batch from that of this process, as `sum_over_batch`."""
    return distributed.all_reduce_sum_scalar(count, device=device) * _micro_batches.get()


# At import, as the registration of the heads: their losses are wrong without it.
compat.patch_loss_normalizers(sum_over_batch)


class TargetCachingMixin:
    """Caches the result of `get_targets` for the distillation losses of the same batch."""

    targets: Any = None
    micro_batches: int = 1
    """Micro-batches that a process accumulates gradients over."""

    def get_targets(self, *args: Any, **kwargs: Any) -> Any:
        """mmdet's label assignment, kept in `targets`."""
        self.targets = super().get_targets(*args, **kwargs)  # type: ignore[misc]
        return self.targets

    def loss(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """mmdet's losses, scaled so that their mean over all shards is the loss of the batch."""
        token = _micro_batches.set(self.micro_batches)
        try:
            losses = super().loss(*args, **kwargs)  # type: ignore[misc]
        finally:
            _micro_batches.reset(token)
        num_shards = distributed.get_world_size() * self.micro_batches
        return {name: _scale_loss(value, num_shards) for name, value in losses.items()}


def _scale_loss(value: Tensor | list[Tensor], factor: int) -> Tensor | list[Tensor]:
    if factor == 1:
        return value
    if isinstance(value, list):
        return [level_loss * factor for level_loss in value]
    return value * factor
