"""Tensors over the positions of a head's maps."""

from collections.abc import Sequence

import torch
from torch import Tensor


def flatten_positions(maps_BDHW: Tensor, width: int) -> Tensor:
    """Reshape (B, A * width, H, W) to (N, width), in fp32."""
    return maps_BDHW.permute(0, 2, 3, 1).reshape(-1, width).float()


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """Flatten maps (B, D, H, W) of a head with one anchor at each location to (N, D), in fp32."""
    return torch.cat([flatten_positions(level, level.shape[1]) for level in maps])


def level_sums(values_N: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Sum of each level, a scalar; `sizes` are the numbers of values by level."""
    return [level.sum() for level in values_N.split(list(sizes))]


def nonzero_indices(masks: Sequence[Tensor]) -> list[Tensor]:
    """Indices of the true elements of each mask (N,), ascending, int64.

    Synchronizes with the device once for all masks.
    """
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    return [
        mask.nonzero_static(size=count).squeeze(1)
        for mask, count in zip(masks, counts, strict=True)
    ]
