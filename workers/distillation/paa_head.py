"""PAA's head (Kim and Lee, ECCV 2020, arXiv 2007.08103), with losses of the whole batch.

Anchors near an object are candidates. A mixture of two Gaussians is fitted to their losses, by
scikit-learn on the host, and those of the better component are positive.
"""

from typing import Any

import torch
from mmdet.core import bbox_overlaps, images_to_levels, multi_apply
from mmdet.models import HEADS
from mmdet.models.dense_heads import PAAHead
from mmdet.models.dense_heads.paa_head import levels_to_images
from torch import Tensor

from workers.distillation.target_caching import TargetCachingMixin, count_over_batch, sum_over_batch

_SMALLEST_WEIGHT = 1e-12
"""mmdet's lower limit of a positive's weight in the box loss."""

ByImage = list[Tensor]
"""One tensor for each image, over the positions of all levels."""


class _BatchNormalizerMixin:
    """mmdet's losses, divided by counts of the whole batch instead of those of this process."""

    def loss(
        self,
        *maps_and_boxes: Any,
        gt_bboxes_ignore: list[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of maps (B, D, H, W) by level: class logits, box offsets, logits of the IoU."""
        head: Any = self
        *maps, boxes, labels, metas = maps_and_boxes
        logits, offsets, ious = (
            [image.reshape(-1, width) for image in levels_to_images(by_level)]
            for by_level, width in zip(maps, (head.cls_out_channels, 4, 1), strict=True)
        )
        anchors, valid = head.get_anchors(
            [level.shape[-2:] for level in maps[0]], metas, device=maps[0][0].device
        )
        candidates = head.get_targets(
            anchors,
            valid,
            boxes,
            metas,
            gt_bboxes_ignore_list=gt_bboxes_ignore,
            gt_labels_list=labels,
        )
        assigned, weights, num_pos = self._select_positives(logits, offsets, anchors, candidates)
        level_sizes = [len(level) for level in anchors[0]]
        head.targets = tuple(images_to_levels(part, level_sizes) for part in (assigned, weights))
        labels_N, device = torch.cat(assigned), maps[0][0].device
        total_pos = count_over_batch(num_pos, device=device)
        total_images = count_over_batch(len(metas), device=device)
        loss_cls = head.loss_cls(
            torch.cat(logits),
            labels_N,
            torch.cat(weights),
            avg_factor=max(total_pos, total_images),
        )
        positive_K = ((labels_N >= 0) & (labels_N < head.num_classes)).nonzero().squeeze(1)
        anchors_N4 = torch.cat([level for of_image in anchors for level in of_image])
        loss_bbox, loss_iou = self._positive_losses(
            torch.cat(offsets),
            torch.cat(ious),
            (positive_K, anchors_N4[positive_K], torch.cat(candidates[2])[positive_K]),
            total_pos=total_pos,
        )
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_iou": loss_iou}

    @torch.no_grad()
    def _select_positives(
        self, logits: ByImage, offsets: ByImage, anchors: list[list[Tensor]], candidates: Any
    ) -> tuple[ByImage, ByImage, int]:
        """Labels (P,) and their weights (P,) of each image, and the number of positives."""
        head: Any = self
        labels, weights, boxes, box_weights, indices, objects = candidates
        (losses,) = multi_apply(
            head.get_pos_loss,
            anchors,
            logits,
            offsets,
            labels,
            weights,
            boxes,
            box_weights,
            indices,
        )
        labels, weights, _, counts = multi_apply(
            head.paa_reassign, losses, labels, weights, box_weights, indices, objects, anchors
        )
        return labels, weights, sum(counts)

    def _positive_losses(
        self,
        offsets_N4: Tensor,
        ious_N1: Tensor,
        positives: tuple[Tensor, Tensor, Tensor],
        *,
        total_pos: float,
    ) -> tuple[Tensor, Tensor]:
        """Losses of boxes and of predicted IoUs; `positives` are index, anchors and true boxes."""
        head: Any = self
        if not total_pos:
            return offsets_N4.sum() * 0, ious_N1.sum() * 0
        positive_K, anchors_K4, boxes_K4 = positives
        predicted_K4 = head.bbox_coder.decode(anchors_K4, offsets_N4[positive_K])
        iou_K = bbox_overlaps(predicted_K4.detach(), boxes_K4, is_aligned=True)
        loss_bbox = head.loss_bbox(
            predicted_K4,
            boxes_K4,
            iou_K.clamp(min=_SMALLEST_WEIGHT),
            avg_factor=sum_over_batch(iou_K.sum()),
        )
        loss_iou = head.loss_centerness(ious_N1[positive_K], iou_K[:, None], avg_factor=total_pos)
        return loss_bbox, loss_iou


@HEADS.register_module()
class TandemPAAHead(TargetCachingMixin, _BatchNormalizerMixin, PAAHead):
    """PAA head whose `targets` are labels and weights (B, P) of each level."""

    def paa_reassign(self, pos_losses: Tensor, *targets: Any) -> Any:
        """mmdet's selection; all candidates stay positive where a loss is not finite.

        scikit-learn would raise an error, where training stops with the term that is not finite.
        """
        label, label_weight, box_weight, indices, *_ = targets
        if not len(indices) or pos_losses.isfinite().all():
            return super().paa_reassign(pos_losses, *targets)
        return label, label_weight, box_weight, len(indices)
