"""mmdet's dense heads with cached label assignments and batch-wide loss normalizers.

Parameters and single-process losses are mmdet's; `target_caching.py` says what differs in several
processes.
"""

from abc import ABC, abstractmethod
from functools import reduce
from typing import Any

import torch
from mmdet.core import bbox_overlaps
from mmdet.models import HEADS
from mmdet.models.dense_heads import (
    ATSSHead,
    FCOSHead,
    GFLHead,
    RetinaHead,
    TOODHead,
    VFNetHead,
)
from torch import Tensor

from workers.distillation.anchor_grid import GridCache
from workers.distillation.assignment import AtssTargets, PaddedBoxes, build_atss_targets
from workers.distillation.head_adapters.positions import flatten_levels, level_sums
from workers.distillation.losses.generalized_focal import (
    distribution_focal_loss,
    quality_focal_loss,
)
from workers.distillation.losses.regions import fcos_targets
from workers.distillation.target_caching import TargetCachingMixin, count_over_batch, sum_over_batch

_EPSILON = float(torch.finfo(torch.float32).eps)
"""mmdet adds it to every normalizer."""


class _LevelAssignmentMixin(TargetCachingMixin):
    """For heads with ATSS assignment, which counts the valid anchors of each level."""

    def get_num_level_anchors_inside(
        self, num_level_anchors: list[int], inside_flags: Tensor
    ) -> list[int]:
        """mmdet's counts, with one device synchronization instead of one for each level."""
        by_level = inside_flags.split(num_level_anchors)
        counts: list[int] = torch.stack([flags.sum() for flags in by_level]).tolist()
        return counts


class _BatchLossMixin(ABC):
    """Assigns labels by ATSS and computes the losses for all images and levels at once.

    Values of every level are those of mmdet's code, which does so for one image and one level after
    the other, and has the host wait for the device at each. What no preset uses (borders around
    images, weighted positives, regions to ignore) is left to mmdet.
    """

    grids: GridCache

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.grids = GridCache(self.prior_generator)  # type: ignore[attr-defined]

    def loss(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Compute mmdet's losses from the same arguments."""
        return (
            self._batch_loss(*args, **kwargs)
            if self._is_batch_loss_equal(**kwargs)
            else super().loss(*args, **kwargs)  # type: ignore[misc]
        )

    def _is_batch_loss_equal(self, gt_bboxes_ignore: list[Tensor] | None = None, **_: Any) -> bool:
        config, assigner = self.train_cfg, self.assigner  # type: ignore[attr-defined]
        ignores_regions = gt_bboxes_ignore is not None and assigner.ignore_iof_thr > 0
        return bool(
            config.allowed_border < 0
            and config.pos_weight <= 0
            and assigner.alpha is None
            and not ignores_regions
        )

    def _batch_loss(
        self,
        *maps_and_boxes: Any,
        gt_bboxes_ignore: list[Tensor] | None = None,  # noqa: ARG002  see _is_batch_loss_equal
    ) -> dict[str, Any]:
        *outputs, gt_bboxes, gt_labels, img_metas = maps_and_boxes
        self.targets = self.assign_labels(outputs[0], gt_bboxes, gt_labels, img_metas)
        return self._losses_by_level(*outputs, targets=self.targets)

    def assign_labels(
        self,
        class_maps: list[Tensor],
        boxes: list[Tensor],
        labels: list[Tensor],
        metas: list[dict[str, Any]],
    ) -> AtssTargets:
        """Targets of a batch: its boxes (M, 4) in pixels and labels (M,) of each image."""
        return build_atss_targets(
            self.grids.get(class_maps),
            PaddedBoxes.of(boxes, labels),
            pad_shapes=[meta["pad_shape"][:2] for meta in metas],
            topk=self.assigner.topk,  # type: ignore[attr-defined]
            num_classes=self.num_classes,  # type: ignore[attr-defined]
        )

    @abstractmethod
    def _losses_by_level(self, *outputs: list[Tensor], targets: AtssTargets) -> dict[str, Any]:
        """Losses by term and level from the head's outputs."""


@HEADS.register_module()
class TandemGFLHead(_LevelAssignmentMixin, _BatchLossMixin, GFLHead):
    """Generalized Focal Loss head (Li et al., NeurIPS 2020)."""

    def _losses_by_level(self, *outputs: list[Tensor], targets: AtssTargets) -> dict[str, Any]:
        logits_NC, edges_ND = (flatten_levels(maps) for maps in outputs)
        positive_K, counts = targets.positive_K, targets.positive_counts
        points_K2, stride_K1 = _positive_points(targets)
        edges_KD, boxes_K4 = edges_ND[positive_K], targets.boxes_K4 / stride_K1
        # Positives are weighted by their score, without a gradient.
        weight_K = logits_NC.detach()[positive_K].sigmoid().amax(dim=1)
        # BLAS rounds a product by its number of rows, so each level has its own, as in mmdet.
        distances_K4 = torch.cat([self.integral(part) for part in edges_KD.split(counts)])
        predicted_K4 = self.bbox_coder.decode(points_K2, distances_K4)
        giou_K = _generalized_iou(predicted_K4, boxes_K4, eps=self.loss_bbox.eps)
        dfl_E = distribution_focal_loss(
            edges_KD.reshape(-1, self.reg_max + 1),
            self.bbox_coder.encode(points_K2, boxes_K4, self.reg_max).reshape(-1),
        )
        weight_E = weight_K[:, None].expand(-1, 4).reshape(-1)
        cls_N = quality_focal_loss(
            logits_NC,
            positive_K=positive_K,
            labels_K=targets.labels_N[positive_K],
            quality_K=bbox_overlaps(predicted_K4.detach(), boxes_K4, is_aligned=True),
            beta=self.loss_cls.beta,
        )
        num_pos = sum_over_batch(targets.num_pos).clamp(min=1.0)
        weight = reduce(torch.add, level_sums(weight_K, counts))
        total_weight = sum_over_batch(weight).clamp_(min=1)
        cls_L = torch.stack(level_sums(cls_N * targets.label_weight_N, targets.level_sizes))
        bbox_L = torch.stack(level_sums((1 - giou_K) * weight_K, counts))
        dfl_L = torch.stack(level_sums(dfl_E * weight_E, [4 * count for count in counts]))
        return {
            "loss_cls": _by_level(cls_L / (num_pos + _EPSILON), self.loss_cls),
            "loss_bbox": _by_level(bbox_L / (1.0 + _EPSILON), self.loss_bbox, total_weight),
            "loss_dfl": _by_level(dfl_L / (4.0 + _EPSILON), self.loss_dfl, total_weight),
        }


@HEADS.register_module()
class TandemATSSHead(_LevelAssignmentMixin, _BatchLossMixin, ATSSHead):
    """ATSS head (Zhang et al., CVPR 2020)."""

    def _losses_by_level(self, *outputs: list[Tensor], targets: AtssTargets) -> dict[str, Any]:
        logits_NC, offsets_N4, centerness_N1 = (flatten_levels(maps) for maps in outputs)
        positive_K, counts = targets.positive_K, targets.positive_counts
        target_K = _centerness(targets.grid.centers_P2[targets.anchor_K], targets.boxes_K4)
        predicted_K4 = self.bbox_coder.decode(
            targets.grid.anchors_P4[targets.anchor_K], offsets_N4[positive_K]
        )
        giou_K = _generalized_iou(predicted_K4, targets.boxes_K4, eps=self.loss_bbox.eps)
        cls_NC = self.loss_cls(
            logits_NC, targets.labels_N, targets.label_weight_N, reduction_override="none"
        )
        centerness_K = self.loss_centerness(
            centerness_N1.squeeze(1)[positive_K], target_K, reduction_override="none"
        )
        num_pos = sum_over_batch(targets.num_pos).clamp(min=1.0) + _EPSILON
        weight = sum_over_batch(reduce(torch.add, level_sums(target_K, counts))).clamp(min=1.0)
        bbox_L = torch.stack(level_sums((1 - giou_K) * target_K, counts)) / (1.0 + _EPSILON)
        cls_L = torch.stack(level_sums(cls_NC, targets.level_sizes))
        centerness_L = torch.stack(level_sums(centerness_K, counts))
        return {
            "loss_cls": list((cls_L / num_pos).unbind()),
            "loss_bbox": _by_level(bbox_L, self.loss_bbox, weight),
            "loss_centerness": list((centerness_L / num_pos).unbind()),
        }


@HEADS.register_module()
class TandemFCOSHead(TargetCachingMixin, FCOSHead):
    """FCOS head (Tian et al., ICCV 2019) with targets computed without a host synchronization."""

    def _get_target_single(
        self,
        gt_bboxes: Tensor,
        gt_labels: Tensor,
        points: Tensor,
        regress_ranges: Tensor,
        num_points_per_lvl: list[int],
    ) -> tuple[Tensor, Tensor]:
        radius_P1 = None
        if self.center_sampling:
            strides = [stride * self.center_sample_radius for stride in self.strides]
            radii = zip(num_points_per_lvl, strides, strict=True)
            radius_P1 = torch.cat([points.new_full((count, 1), radius) for count, radius in radii])
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
class TandemTOODHead(_LevelAssignmentMixin, TOODHead):
    """TOOD head (Feng et al., ICCV 2021), whose `epoch` decides how it assigns labels."""


@HEADS.register_module()
class TandemRetinaHead(TargetCachingMixin, RetinaHead):
    """RetinaNet head (Lin et al., ICCV 2017) that counts the positives of all processes."""

    def get_targets(self, *args: Any, **kwargs: Any) -> Any:
        """mmdet's targets, with the number of positives of the whole batch."""
        *targets, num_pos, num_neg = super().get_targets(*args, **kwargs)
        return (*targets, count_over_batch(num_pos, device=targets[0][0].device), num_neg)


def _positive_points(targets: AtssTargets) -> tuple[Tensor, Tensor]:
    """Center (K, 2), in strides, and stride (K, 1) of each positive's anchor."""
    stride_K1 = targets.grid.strides_P1[targets.anchor_K]
    return targets.grid.centers_P2[targets.anchor_K] / stride_K1, stride_K1


def _generalized_iou(predicted_K4: Tensor, boxes_K4: Tensor, *, eps: float) -> Tensor:
    """mmdet's GIoU, (K,), with a gradient even without positives: every weight must get one."""
    if not len(predicted_K4):
        return predicted_K4.sum(dim=1)
    giou_K: Tensor = bbox_overlaps(predicted_K4, boxes_K4, mode="giou", is_aligned=True, eps=eps)
    return giou_K


def _centerness(centers_K2: Tensor, boxes_K4: Tensor) -> Tensor:
    """How close the centers are to those of their boxes, from 0 at an edge to 1, (K,)."""
    to_left_top_K2 = centers_K2 - boxes_K4[:, :2]
    to_right_bottom_K2 = boxes_K4[:, 2:] - centers_K2
    nearest_K2 = torch.minimum(to_left_top_K2, to_right_bottom_K2)
    farthest_K2 = torch.maximum(to_left_top_K2, to_right_bottom_K2)
    across_K, along_K = (nearest_K2 / farthest_K2).unbind(1)
    return (across_K * along_K).sqrt()


def _by_level(loss_L: Tensor, loss_module: Any, normalizer: Tensor | None = None) -> list[Tensor]:
    """Weight the losses of all levels and divide them by the normalizer, in mmdet's order."""
    weighted_L = loss_module.loss_weight * loss_L
    return list((weighted_L if normalizer is None else weighted_L / normalizer).unbind())
