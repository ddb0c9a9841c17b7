"""Adapters of heads whose boxes start from anchors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workers.distillation.anchor_grid import GridCache
from workers.distillation.head_adapters.base import HeadAdapter, Outputs
from workers.distillation.head_adapters.label_assignment import (
    Assignment,
    make_assignment,
    read_atss_assignment,
)
from workers.distillation.head_adapters.positions import flatten_levels, flatten_positions

_SMALLEST_SCORE = 1e-6
"""Scores are clamped to it, and to 1 minus it, before their logits: those stay within 13.8."""


class GflHeadAdapter(HeadAdapter):
    """Box edges are expectations of distributions over distances from the anchor's center."""

    last_layers = ("gfl_cls", "gfl_reg")

    def __init__(self, head: Any) -> None:
        super().__init__(head)
        self._grids: GridCache = getattr(head, "grids", None) or GridCache(head.prior_generator)

    def decode_levels(self, outputs: Outputs, levels: Sequence[int]) -> Tensor:
        """Decoded boxes of several levels, all at once."""
        maps = outputs[self.box_output]
        grid, num_images = self._grids.get(maps), len(maps[0])
        points = grid.points_N2(num_images).split([num_images * n for n in grid.level_counts])
        with torch.autocast(maps[0].device.type, enabled=False):
            distances_N4 = self.head.integral(flatten_levels([maps[level] for level in levels]))
            points_N2 = torch.cat([points[level] for level in levels])
            decoded_N4: Tensor = self.head.bbox_coder.decode(points_N2, distances_N4)
        return decoded_N4

    def edges(self, outputs: Outputs, level: int) -> Tensor:
        """Logits of the edge distributions, (N, 4, reg_max + 1)."""
        return flatten_positions(outputs[1][level], 4 * (self.head.reg_max + 1)).unflatten(
            1, (4, -1)
        )

    def read_assignment(self, targets: Any) -> Assignment:
        """Read the targets of GFL, which assigns labels by ATSS."""
        return read_atss_assignment(self.head, targets)

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        centers_N2 = self.head.anchor_center(self._priors(maps_BDHW, level)) / self.strides[level]
        distances_N4 = self.head.integral(flatten_positions(maps_BDHW, 4 * (self.head.reg_max + 1)))
        return self.head.bbox_coder.decode(centers_N2, distances_N4)


class AtssHeadAdapter(HeadAdapter):
    """Boxes are offsets from one anchor at each location."""

    last_layers = ("atss_cls", "atss_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """Read the targets of ATSS, which adapts the IoU threshold to each object."""
        return read_atss_assignment(self.head, targets)

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        return _decode_anchors(self, maps_BDHW, level)


class PaaHeadAdapter(AtssHeadAdapter):
    """PAA predicts as ATSS does, and assigns other labels."""

    def read_assignment(self, targets: Any) -> Assignment:
        """Read the labels of the candidates that PAA has chosen."""
        labels, weights = targets
        return make_assignment(self.head, labels, weights)


class ToodHeadAdapter(HeadAdapter):
    """The head predicts scores, and decoded boxes in strides."""

    clips_boxes = False
    needs_fp32 = True  # its deformable convolutions

    def class_logits(self, outputs: Outputs, level: int) -> Tensor:
        """Logits of the scores, which are geometric means of two sigmoids, (N, C)."""
        return super().class_logits(outputs, level).logit(eps=_SMALLEST_SCORE)

    def prepare_features(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The deformable convolutions take fp32 only."""
        return tuple(maps.float() for maps in features)

    def read_assignment(self, targets: Any) -> Assignment:
        """Read labels by ATSS or by task alignment; both leave counting positives to the reader."""
        _, labels, weights, *_ = targets
        return make_assignment(self.head, labels, weights)

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:  # noqa: ARG002
        return flatten_positions(maps_BDHW, 4)


class RetinaHeadAdapter(HeadAdapter):
    """Boxes are offsets from several anchors at each location."""

    last_layers = ("retina_cls", "retina_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """Labels are by IoU with the anchors, and ignored between the two thresholds."""
        labels, weights, *_, num_pos, _ = targets
        return make_assignment(self.head, labels, weights, num_pos)

    def _scale(self, maps_BDHW: Tensor, level: int) -> Tensor:  # noqa: ARG002
        return maps_BDHW

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        return _decode_anchors(self, maps_BDHW, level)


def _decode_anchors(adapter: HeadAdapter, maps_BDHW: Tensor, level: int) -> Tensor:
    anchors_N4 = adapter._priors(maps_BDHW, level)
    return (
        adapter.head.bbox_coder.decode(anchors_N4, flatten_positions(maps_BDHW, 4))
        / adapter.strides[level]
    )
