"""Attention of feature maps, and losses that weight locations and channels: FGD and MGD.

Shapes: B images, C channels, H x W locations of one feature level, M boxes. The student's map
already has the teacher's channels and size.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureAttention:
    """FGD's attention (Yang et al., CVPR 2022, arXiv 2111.11837, section 3.1): where features are
    large. Both parts have a mean of 1."""

    locations_BHW: Tensor
    channels_BC: Tensor

    @classmethod
    def of(cls, maps_BCHW: Tensor, *, temperature: float) -> Self:
        """The softmax of mean absolute features over locations, and over channels."""
        absolute_BCHW = maps_BCHW.float().abs()
        by_location_BP = (absolute_BCHW.mean(dim=1).flatten(1) / temperature).softmax(dim=1)
        by_channel_BC = (absolute_BCHW.mean(dim=(2, 3)) / temperature).softmax(dim=1)
        num_channels, *size = maps_BCHW.shape[1:]
        return cls(
            (by_location_BP * by_location_BP.shape[1]).unflatten(1, size),
            by_channel_BC * num_channels,
        )

    @property
    def weight_BCHW(self) -> Tensor:
        """Product of both parts at each location and channel."""
        return self.locations_BHW[:, None] * self.channels_BC[:, :, None, None]


def attention_loss(student: FeatureAttention, teacher: FeatureAttention) -> Tensor:
    """Absolute difference, summed over locations and channels, averaged over images, a scalar."""
    pairs = (
        (student.locations_BHW, teacher.locations_BHW),
        (student.channels_BC, teacher.channels_BC),
    )
    sums = [(first - second.detach()).abs().flatten(1).sum(dim=1) for first, second in pairs]
    return torch.stack(sums).sum(dim=0).mean()


def squared_distance(
    student_BCHW: Tensor, teacher_BCHW: Tensor, *, weight_BCHW: Tensor | None = None
) -> Tensor:
    """Squared difference, summed over channels and locations, averaged over images, a scalar.

    The loss of MGD (Yang et al., ECCV 2022, arXiv 2205.01529, equation 4) and of FGD's terms of
    features. The teacher's map gets a gradient where it has passed a trained adapter.
    """
    squared_BCHW = (student_BCHW.float() - teacher_BCHW.float()).square()
    weighted_BCHW = squared_BCHW if weight_BCHW is None else squared_BCHW * weight_BCHW
    return weighted_BCHW.flatten(1).sum(dim=1).mean()


def foreground_scale(boxes_M4: Tensor, *, size: tuple[int, int], stride: int) -> Tensor:
    """One over the locations of the smallest box at each location, 0 outside of all boxes, (H, W).

    Boxes are in pixels. As in FGD's code, a box reaches from the location of its left top corner to
    that after its right bottom corner, and its part outside of the map counts as well.
    """
    if not len(boxes_M4):
        return boxes_M4.new_zeros(size)
    first_M2 = (boxes_M4[:, :2] / stride).floor()
    last_M2 = (boxes_M4[:, 2:] / stride).ceil()
    width_M, height_M = (last_M2 - first_M2 + 1.0).unbind(1)
    rows, columns = (torch.arange(length, device=boxes_M4.device) for length in size)
    in_columns_MW = (columns >= first_M2[:, :1]) & (columns <= last_M2[:, :1])
    in_rows_MH = (rows >= first_M2[:, 1:]) & (rows <= last_M2[:, 1:])
    inside_MHW = in_rows_MH[:, :, None] & in_columns_MW[:, None, :]
    scale_M11 = 1.0 / (width_M * height_M)[:, None, None]
    return torch.where(inside_MHW, scale_M11, 0.0).amax(dim=0)


def background_scale(foreground_BHW: Tensor) -> Tensor:
    """One over the number of locations without a box at each of them, else 0, (B, H, W)."""
    free_BHW = (foreground_BHW == 0.0).float()
    return free_BHW / free_BHW.sum(dim=(1, 2), keepdim=True).clamp(min=1.0)
