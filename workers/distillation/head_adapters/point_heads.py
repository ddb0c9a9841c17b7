"""Adapters of heads whose boxes start from points."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.distillation.head_adapters.base import HeadAdapter, move_constant
from workers.distillation.head_adapters.label_assignment import Assignment, make_assignment
from workers.distillation.head_adapters.positions import flatten_positions


class FcosHeadAdapter(HeadAdapter):
    """Boxes are edge distances from points."""

    last_layers = ("conv_cls", "conv_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """Labels are by location and object size, and no position is ignored."""
        labels = targets[0]
        return make_assignment(
            self.head,
            labels,
            [torch.ones_like(level_labels, dtype=torch.float) for level_labels in labels],
        )

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        stride = self.strides[level]
        distances_N4 = flatten_positions(maps_BDHW, 4)
        # The head returns distances in strides in train mode, and in pixels in eval mode.
        if not (self.head.training and self.head.norm_on_bbox):
            distances_N4 = distances_N4 / stride
        points_N2 = self._priors(maps_BDHW, level) / stride
        return self.head.bbox_coder.decode(points_N2, distances_N4)

    def _scale(self, maps_BDHW: Tensor, level: int) -> Tensor:
        distances = self.head.scales[level](maps_BDHW).float()
        distances = distances.clamp(min=0) if self.head.norm_on_bbox else distances.exp()
        in_pixels = self.head.norm_on_bbox and not self.head.training
        return distances * self.strides[level] if in_pixels else distances


class VfnetHeadAdapter(HeadAdapter):
    """Boxes are edge distances from points; the last output holds the refined ones."""

    box_output = -1
    needs_fp32 = True  # its deformable convolutions

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Also move the kernel offsets of the deformable convolution, which takes NCHW only."""
        super().move(change)
        self.head.dcn_base_offset = move_constant(self.head.dcn_base_offset, change)
        for parameter in self.head.parameters():
            parameter.data = parameter.data.contiguous()

    def prepare_features(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The deformable convolutions take fp32 and NCHW only."""
        return tuple(maps.float().contiguous() for maps in features)

    def read_assignment(self, targets: Any) -> Assignment:
        """Read the targets of VFNet, whose `get_targets` does not count positives."""
        labels, weights = targets[:2]
        return make_assignment(
            self.head,
            labels,
            list(weights.split([level_labels.numel() for level_labels in labels])),
        )

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        stride = self.strides[level]
        points_N2 = self._priors(maps_BDHW, level) / stride
        return self.head.bbox_coder.decode(points_N2, flatten_positions(maps_BDHW, 4) / stride)
