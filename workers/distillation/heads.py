"""mmdet's dense heads, keeping the label assignment of a batch; same parameters, same losses.

mmdet keeps every normaliser (the number of positives, the sum of their weights) at 1 or more in
each process. So several processes with a share of a batch each would not learn what one learns with
all of it, most of all at the beginning, when the weights are small. Here it is the whole batch's
normaliser that is kept at 1 or more; where a process sees its share in parts, one after the other,
the whole is estimated from the part.
"""

from contextvars import ContextVar
from typing import Any

import torch
from mmdet.models import HEADS
from mmdet.models.dense_heads import (
    ATSSHead,
    FCOSHead,
    GFLHead,
    RetinaHead,
    VFNetHead,
    atss_head,
    fcos_head,
    gfl_head,
    vfnet_head,
)
from torch import Tensor

from workers import distributed
from workers.distillation.losses.regions import fcos_targets

_parts: ContextVar[int] = ContextVar("parts", default=1)


def _over_the_whole_batch(value: Tensor) -> Tensor:
    return distributed.all_reduce_sum(value) * _parts.get()


for _module in (atss_head, fcos_head, gfl_head, vfnet_head):
    # mmdet's `reduce_mean` divides by the processes before it compares with 1; `loss` below does
    # after.
    _module.reduce_mean = _over_the_whole_batch


class _Remembering:
    """Keeps what `get_targets` said, for the distillation losses of the same batch."""

    targets: Any = None
    micro_batches: int = 1
    """Pieces that a process sees of its share of a batch, one after the other."""

    def get_targets(self, *args: Any, **kwargs: Any) -> Any:
        """mmdet's label assignment."""
        self.targets = super().get_targets(*args, **kwargs)  # type: ignore[misc]
        return self.targets

    def loss(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """mmdet's losses; their mean over processes and parts is the whole batch's."""
        token = _parts.set(self.micro_batches)
        try:
            losses = super().loss(*args, **kwargs)  # type: ignore[misc]
        finally:
            _parts.reset(token)
        pieces = distributed.get_world_size() * self.micro_batches
        return {name: _times(value, pieces) for name, value in losses.items()}


class _AssigningByLevel(_Remembering):
    """A head whose assignment (ATSS) must know how many anchors of each level count."""

    def get_num_level_anchors_inside(
        self, num_level_anchors: list[int], inside_flags: Tensor
    ) -> list[int]:
        """mmdet's counts, with one wait for the device instead of one a level."""
        by_level = inside_flags.split(num_level_anchors)
        counts: list[int] = torch.stack([flags.sum() for flags in by_level]).tolist()
        return counts


@HEADS.register_module()
class TandemGFLHead(_AssigningByLevel, GFLHead):
    """Generalized Focal Loss."""


@HEADS.register_module()
class TandemATSSHead(_AssigningByLevel, ATSSHead):
    """ATSS."""


@HEADS.register_module()
class TandemFCOSHead(_Remembering, FCOSHead):
    """FCOS."""

    def _get_target_single(
        self,
        gt_bboxes: Tensor,
        gt_labels: Tensor,
        points: Tensor,
        regress_ranges: Tensor,
        num_points_per_lvl: list[int],
    ) -> tuple[Tensor, Tensor]:
        if not self.center_sampling:
            return super()._get_target_single(
                gt_bboxes, gt_labels, points, regress_ranges, num_points_per_lvl
            )
        strides = [stride * self.center_sample_radius for stride in self.strides]
        radius_P1 = torch.cat(
            [
                points.new_full((count, 1), radius)
                for count, radius in zip(num_points_per_lvl, strides, strict=True)
            ]
        )
        return fcos_targets(
            points,
            gt_bboxes,
            gt_labels,
            ranges_P2=regress_ranges,
            radius_P1=radius_P1,
            background=self.num_classes,
        )


@HEADS.register_module()
class TandemVFNetHead(_AssigningByLevel, VFNetHead):
    """VarifocalNet."""


@HEADS.register_module()
class TandemRetinaHead(_Remembering, RetinaHead):
    """RetinaNet; mmdet alone counts the positives of one process."""

    def get_targets(self, *args: Any, **kwargs: Any) -> Any:
        """mmdet's label assignment, with the positives of the whole batch."""
        *rest, num_pos, num_neg = super().get_targets(*args, **kwargs)
        positives = distributed.all_reduce_sum_scalar(num_pos, device=rest[0][0].device)
        return (*rest, positives * _parts.get(), num_neg)


def _times(value: Tensor | list[Tensor], factor: int) -> Tensor | list[Tensor]:
    if factor == 1:
        return value
    if isinstance(value, list):
        return [of_level * factor for of_level in value]
    return value * factor
