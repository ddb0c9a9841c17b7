"""mmdet's dense heads with cached label assignments and batch-wide loss normalizers.

Parameters and single-process losses are mmdet's. mmdet clamps every normalizer (the number of
positives, the sum of their weights) to at least 1 in each process. Several processes with a shard
of a batch each would therefore not learn what one process learns from the whole batch, above all
early in training, when the weights are small. These heads clamp the normalizer of the whole batch
instead. Where a process accumulates gradients over micro-batches, they estimate the whole batch
from one micro-batch.
"""

from contextvars import ContextVar
from typing import Any

import torch
from mmdet.models import HEADS
from mmdet.models.dense_heads import ATSSHead, FCOSHead, GFLHead, RetinaHead, VFNetHead
from torch import Tensor

from workers import distributed
from workers.distillation.losses.regions import fcos_targets
from workers.process import compat

_micro_batches: ContextVar[int] = ContextVar("micro_batches", default=1)


def _sum_over_batch(value: Tensor) -> Tensor:
    return distributed.all_reduce_sum(value) * _micro_batches.get()


# At import, as the registration of the heads: their losses are wrong without it.
compat.patch_loss_normalizers(_sum_over_batch)


class _TargetCachingMixin:
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


class _LevelAssignmentMixin(_TargetCachingMixin):
    """For heads with ATSS assignment, which counts the valid anchors of each level."""

    def get_num_level_anchors_inside(
        self, num_level_anchors: list[int], inside_flags: Tensor
    ) -> list[int]:
        """mmdet's counts, with one device synchronization instead of one for each level."""
        by_level = inside_flags.split(num_level_anchors)
        counts: list[int] = torch.stack([flags.sum() for flags in by_level]).tolist()
        return counts


@HEADS.register_module()
class TandemGFLHead(_LevelAssignmentMixin, GFLHead):
    """Generalized Focal Loss head (Li et al., NeurIPS 2020)."""


@HEADS.register_module()
class TandemATSSHead(_LevelAssignmentMixin, ATSSHead):
    """ATSS head (Zhang et al., CVPR 2020)."""


@HEADS.register_module()
class TandemFCOSHead(_TargetCachingMixin, FCOSHead):
    """FCOS head (Tian et al., ICCV 2019) with targets computed without a host synchronization."""

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
class TandemVFNetHead(_LevelAssignmentMixin, VFNetHead):
    """VarifocalNet head (Zhang et al., CVPR 2021)."""


@HEADS.register_module()
class TandemRetinaHead(_TargetCachingMixin, RetinaHead):
    """RetinaNet head (Lin et al., ICCV 2017) that counts the positives of all processes."""

    def get_targets(self, *args: Any, **kwargs: Any) -> Any:
        """mmdet's targets, with the number of positives of the whole batch."""
        *targets, num_pos, num_neg = super().get_targets(*args, **kwargs)
        positives = distributed.all_reduce_sum_scalar(num_pos, device=targets[0][0].device)
        return (*targets, positives * _micro_batches.get(), num_neg)


def _scale_loss(value: Tensor | list[Tensor], factor: int) -> Tensor | list[Tensor]:
    if factor == 1:
        return value
    if isinstance(value, list):
        return [level_loss * factor for level_loss in value]
    return value * factor
