"""Adapters of heads whose boxes start from points."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from workers.distillation.head_adapters.base import HeadAdapter, Outputs, move_constant
from workers.distillation.head_adapters.label_assignment import Assignment, make_assignment
from workers.distillation.head_adapters.positions import flatten_positions


class FcosHeadAdapter(HeadAdapter):
    """Boxes are edge distances from points."""

    last_layers = ("conv_cls", "conv_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """Labels are by location and object size, and no position is ignored."""
        return make_assignment(self.head, targets[0])

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


class YoloxHeadAdapter(HeadAdapter):
    """Boxes are offsets of centers from the corners of cells, and logarithms of sides, in strides.

    Scores are products of class score and objectness: class logits are trained at positive
    positions only, so alone they mean nothing at others.
    """

    clips_boxes = False

    def class_logits(self, outputs: Outputs, level: int) -> Tensor:
        """Logits of the scores, (N, C)."""
        return product_logits(super().class_logits(outputs, level), _objectness(outputs, level))

    def best_classes(self, outputs: Outputs, level: int) -> tuple[Tensor, Tensor]:
        """Score and class of the only candidate at each position, (N,) and (N,), as in mmdet."""
        best_N, label_N = super().class_logits(outputs, level).sigmoid().max(dim=1)
        return best_N * _objectness(outputs, level).squeeze(1).sigmoid(), label_N

    def read_assignment(self, targets: Any) -> Assignment:
        """Read the labels by SimOTA; none are ignored."""
        return make_assignment(self.head, targets)

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        shifts_N2, log_sides_N2 = flatten_positions(maps_BDHW, 4).split(2, dim=1)
        centers_N2 = self._priors(maps_BDHW, level) / self.strides[level] + shifts_N2
        half_N2 = log_sides_N2.exp() / 2
        return torch.cat([centers_N2 - half_N2, centers_N2 + half_N2], dim=1)


def product_logits(first_NC: Tensor, second_N1: Tensor) -> Tensor:
    """Logits of the product of two sigmoids, a + b - log(1 + exp(a) + exp(b)), (N, C).

    As YOLOF (Chen et al., CVPR 2021, arXiv 2103.09460) joins classes and objectness; exact also
    where a score rounds to 0 or 1.
    """
    either_NC = torch.logaddexp(first_NC, second_N1)
    return first_NC + second_N1 - functional.softplus(either_NC)


def _objectness(outputs: Outputs, level: int) -> Tensor:
    """Logits of the objectness, (N, 1)."""
    return flatten_positions(outputs[2][level], 1)
