"""Anchors of all feature levels, computed once for each image size.

Heads have one anchor at each location. Shapes: B images, P anchors of an image (all levels), H x W
locations of a level. The positions N = B x P of a batch are ordered by level, then image, row and
column.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

Size = tuple[int, int]
"""Rows and columns."""

_MAX_GRIDS = 8
"""Image sizes whose anchors are kept; each takes about 2 MB for an image of 1333 x 800."""

_MAX_VALID = 32
"""Sizes of images within a batch of one size whose valid anchors are kept."""


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of all levels for one image size; kept between steps."""

    sizes: list[Size]
    """Size of each level's feature map."""

    anchors_P4: Tensor
    strides: list[int]
    _orders: dict[int, Tensor] = field(default_factory=dict)
    _points: dict[int, Tensor] = field(default_factory=dict)
    _valid: dict[tuple[Size, ...], Tensor] = field(default_factory=dict)

    @property
    def level_counts(self) -> list[int]:
        """Anchors of one image, by level."""
        return [rows * columns for rows, columns in self.sizes]

    @cached_property
    def centers_P2(self) -> Tensor:
        """Centers of the anchors, in pixels."""
        return (self.anchors_P4[:, :2] + self.anchors_P4[:, 2:]) / 2.0

    @cached_property
    def areas_P(self) -> Tensor:
        """Areas of the anchors, in square pixels."""
        width_P, height_P = (self.anchors_P4[:, 2:] - self.anchors_P4[:, :2]).unbind(1)
        return width_P * height_P

    @cached_property
    def strides_P1(self) -> Tensor:
        """Stride at each anchor."""
        counts = zip(self.level_counts, self.strides, strict=True)
        return torch.cat([self.anchors_P4.new_full((n, 1), stride) for n, stride in counts])

    @cached_property
    def level_P(self) -> Tensor:
        """Level of each anchor, int64."""
        counts = enumerate(self.level_counts)
        like = self.anchors_P4
        return torch.cat([like.new_full((n,), level, dtype=torch.long) for level, n in counts])

    @cached_property
    def axes(self) -> tuple[Tensor, Tensor]:
        """Abscissas of all levels' columns and ordinates of all levels' rows, one after another."""
        grids = [
            centers_R2.unflatten(0, size)
            for centers_R2, size in zip(
                self.centers_P2.split(self.level_counts), self.sizes, strict=True
            )
        ]
        return (
            torch.cat([grid_HW2[0, :, 0] for grid_HW2 in grids]),
            torch.cat([grid_HW2[:, 0, 1] for grid_HW2 in grids]),
        )

    def level_order(self, num_images: int) -> Tensor:
        """Index among B x P, ordered by image first, of each of the N positions; int64."""
        return _get_or_make(
            self._orders, num_images, lambda: self._make_level_order(num_images), limit=1
        )

    def _make_level_order(self, num_images: int) -> Tensor:
        count = num_images * len(self.anchors_P4)
        index_BP = torch.arange(count, device=self.anchors_P4.device).unflatten(0, (num_images, -1))
        return torch.cat([level.reshape(-1) for level in index_BP.split(self.level_counts, dim=1)])

    def points_N2(self, num_images: int) -> Tensor:
        """Centers of the anchors of all positions of a batch, in strides."""
        return _get_or_make(
            self._points, num_images, lambda: self._make_points(num_images), limit=1
        )

    def _make_points(self, num_images: int) -> Tensor:
        points_P2 = self.centers_P2 / self.strides_P1
        return torch.cat(
            [level.repeat(num_images, 1) for level in points_P2.split(self.level_counts)]
        )

    def valid_sizes(self, pad_shape: Sequence[int]) -> tuple[Size, ...]:
        """Locations of each level within an image's own padding; `pad_shape` is in pixels."""
        return tuple(
            get_valid_size(pad_shape, size=size, stride=stride)
            for stride, size in zip(self.strides, self.sizes, strict=True)
        )

    def valid_P(self, valid_sizes: tuple[Size, ...]) -> Tensor:
        """1 at the anchors within an image's own padding, else 0."""
        return _get_or_make(
            self._valid, valid_sizes, lambda: self._make_valid(valid_sizes), limit=_MAX_VALID
        )

    def _make_valid(self, valid_sizes: tuple[Size, ...]) -> Tensor:
        levels = []
        for size, (rows, columns) in zip(self.sizes, valid_sizes, strict=True):
            level = self.anchors_P4.new_zeros(size)
            level[:rows, :columns] = 1.0
            levels.append(level.flatten())
        return torch.cat(levels)


class GridCache:
    """The grids of the image sizes that were used last."""

    def __init__(self, prior_generator: Any) -> None:
        """`prior_generator` is that of an mmdet head with one anchor at each location."""
        self._generator = prior_generator
        self._grids: dict[tuple[object, ...], AnchorGrid] = {}

    def get(self, maps: Sequence[Tensor]) -> AnchorGrid:
        """The grid for feature maps (B, D, H, W) by level."""
        sizes = [(int(level.shape[-2]), int(level.shape[-1])) for level in maps]
        device = maps[0].device
        return _get_or_make(
            self._grids, (device, *sizes), lambda: self._make(sizes, device), limit=_MAX_GRIDS
        )

    def _make(self, sizes: list[Size], device: torch.device) -> AnchorGrid:
        anchors = self._generator.grid_priors(sizes, device=device)
        strides = [int(stride) for stride, _ in self._generator.strides]
        return AnchorGrid(sizes=sizes, anchors_P4=torch.cat(anchors), strides=strides)


def get_valid_size(pad_shape: Sequence[int], *, size: Sequence[int], stride: int) -> Size:
    """Locations of a level within an image's own padding, as `valid_flags` in mmdet.

    `pad_shape` is (height, width, ...) in pixels, `size` that of the level's feature map.
    """
    return min(-(-pad_shape[0] // stride), size[0]), min(-(-pad_shape[1] // stride), size[1])


def _get_or_make(
    cache: dict[KeyT, ValueT], key: KeyT, make: Callable[[], ValueT], *, limit: int
) -> ValueT:
    """The cached value; the oldest one makes room for a new one."""
    if key not in cache:
        if len(cache) >= limit:
            del cache[next(iter(cache))]
        cache[key] = make()
    return cache[key]
