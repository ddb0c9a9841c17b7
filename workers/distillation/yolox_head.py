"""YOLOX's head (Ge et al., 2021, arXiv 2107.08430), with losses of the whole batch.

SimOTA assigns labels by costs, from the head's own scores and boxes: each object gets the positions
of its lowest costs, as many as its ten largest IoUs add up to. Positions in the padding are
background, as in mmdet.

Shapes: B images, P positions of an image, N = B x P, K positives, C classes, M objects of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from mmdet.models import HEADS
from mmdet.models.dense_heads import YOLOXHead
from torch import Tensor
from torch.nn import functional

from workers.distillation.target_caching import TargetCachingMixin, sum_over_batch


@dataclass(frozen=True)
class _Predictions:
    """The head's outputs for all levels, ordered by image, level, row and column."""

    logits_BPC: Tensor
    offsets_BP4: Tensor
    objectness_BP1: Tensor
    boxes_BP4: Tensor
    """Left, top, right, bottom, in pixels."""

    @classmethod
    def read(cls, head: Any, maps: Sequence[list[Tensor]], priors_P4: Tensor) -> Self:
        logits_BPC, offsets_BP4, objectness_BP1 = (
            torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in by_level], dim=1)
            for by_level in maps
        )
        boxes_BP4 = head._bbox_decode(priors_P4, offsets_BP4)
        return cls(logits_BPC, offsets_BP4, objectness_BP1, boxes_BP4)


@dataclass(frozen=True)
class _Objects:
    """What each position of an image is trained to."""

    labels_P: Tensor
    """Class, or the number of classes where there is no object; int64."""

    iou_K: Tensor
    """IoU of the predicted box with the object's."""

    boxes_K4: Tensor


class _SimOtaLossMixin:
    """mmdet's losses, divided by the number of positives of the whole batch."""

    def loss(
        self,
        *maps_and_boxes: Any,
        gt_bboxes_ignore: list[Tensor] | None = None,  # noqa: ARG002  mmdet does not use it
    ) -> dict[str, Tensor]:
        """Losses of maps (B, D, H, W) by level: class logits, box offsets, objectness."""
        head: Any = self
        *maps, boxes, labels, _ = maps_and_boxes
        level_priors = head.prior_generator.grid_priors(
            [level.shape[-2:] for level in maps[0]],
            dtype=maps[0][0].dtype,
            device=maps[0][0].device,
            with_stride=True,
        )
        priors_P4 = torch.cat(level_priors)
        predictions = _Predictions.read(head, maps, priors_P4)
        objects = [
            self._assign(predictions, image, priors_P4, boxes[image], labels[image])
            for image in range(len(boxes))
        ]
        labels_BP = torch.stack([of_image.labels_P for of_image in objects])
        head.targets = labels_BP.split([len(level) for level in level_priors], dim=1)
        return self._losses(predictions, objects, labels_N=labels_BP.flatten())

    @torch.no_grad()
    def _assign(
        self,
        predictions: _Predictions,
        image: int,
        priors_P4: Tensor,
        boxes_M4: Tensor,
        labels_M: Tensor,
    ) -> _Objects:
        head: Any = self
        logits_PC, objectness_P1, predicted_P4 = (
            maps_BPD[image].detach()
            for maps_BPD in (
                predictions.logits_BPC,
                predictions.objectness_BP1,
                predictions.boxes_BP4,
            )
        )
        scores_PC = logits_PC.sigmoid() * objectness_P1.sigmoid()
        background = head.num_classes
        labels_P = labels_M.new_full((len(scores_PC),), background, dtype=torch.long)
        if not len(boxes_M4):
            return _Objects(labels_P, scores_PC.new_zeros(0), scores_PC.new_zeros(0, 4))
        if not scores_PC.isfinite().all():
            # The costs would be refused. With every position positive all losses show it.
            everywhere_P = labels_P * 0
            return _Objects(everywhere_P, scores_PC.amax(dim=1), boxes_M4[everywhere_P])
        # Costs are those of the centers of cells, boxes start from their corners. `assign` would
        # repeat it on the CPU after any error of torch.
        centers_P4 = torch.cat([priors_P4[:, :2] + priors_P4[:, 2:] * 0.5, priors_P4[:, 2:]], dim=1)
        assigned = head.assigner._assign(
            scores_PC, centers_P4, predicted_P4, boxes_M4.to(predicted_P4), labels_M
        )
        positive_K = (assigned.gt_inds > 0).nonzero().squeeze(1)
        labels_P[positive_K] = assigned.labels[positive_K]
        return _Objects(
            labels_P,
            assigned.max_overlaps[positive_K],
            boxes_M4[assigned.gt_inds[positive_K] - 1].to(predicted_P4),
        )

    def _losses(
        self, predictions: _Predictions, objects: list[_Objects], *, labels_N: Tensor
    ) -> dict[str, Tensor]:
        head: Any = self
        is_object_N = labels_N < head.num_classes
        positive_K = is_object_N.nonzero().squeeze(1)
        num_pos = sum_over_batch(is_object_N.sum().to(torch.float32)).clamp(min=1.0)
        iou_K1 = torch.cat([of_image.iou_K for of_image in objects])[:, None]
        boxes_K4 = torch.cat([of_image.boxes_K4 for of_image in objects])
        predicted_K4 = predictions.boxes_BP4.flatten(0, 1)[positive_K]
        target_KC = functional.one_hot(labels_N[positive_K], head.num_classes) * iou_K1
        # Without positives mmdet's box loss has no gradient, and every weight must get one.
        loss_bbox = (
            head.loss_bbox(predicted_K4, boxes_K4) if len(positive_K) else predicted_K4.sum()
        )
        loss_obj = head.loss_obj(
            predictions.objectness_BP1.flatten(0, 1), is_object_N[:, None].to(iou_K1)
        )
        loss_cls = head.loss_cls(predictions.logits_BPC.flatten(0, 1)[positive_K], target_KC)
        losses = {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_obj": loss_obj}
        return {name: loss / num_pos for name, loss in losses.items()}


@HEADS.register_module()
class TandemYOLOXHead(TargetCachingMixin, _SimOtaLossMixin, YOLOXHead):
    """YOLOX head whose `targets` are the labels (B, P) of each level."""
