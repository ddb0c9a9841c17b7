"""Fine-grained imitation of features near objects."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from configs.spec.distillation import FineGrained
from workers.distillation.batch import DistillationBatch
from workers.distillation.head_adapters.label_assignment import shard_normalizer
from workers.distillation.losses.features import fine_grained_loss
from workers.distillation.losses.regions import imitation_mask
from workers.distillation.methods.base import FeatureMethod, Terms
from workers.distillation.methods.golden import (
    GoldenCase,
    GoldenOutputs,
    make_anchor_row,
    make_golden_batch,
)

_POINT_ANCHOR_STRIDES = 8.0
"""Side, in strides, of the square that replaces an anchor where a head has only points."""


class FineGrainedMethod(FeatureMethod[FineGrained]):
    """Wang et al., CVPR 2019."""

    spec_type = FineGrained

    def golden_cases(self) -> Sequence[GoldenCase]:
        """The first two of three anchors have an IoU with the box of more than 1/4 of the best, 1.

        Squared differences there are 4 and 1: (4 + 1) / (2 * 2 locations), times the weight.
        """
        student = torch.tensor([[[[2.0, 1.0, 5.0]]]])
        batch = make_golden_batch(
            GoldenOutputs([student], anchors=[make_anchor_row()]),
            GoldenOutputs([student * 0.0]),
            boxes=[make_anchor_row()[:1]],
        )
        spec = FineGrained(weight=2.0, threshold=0.25)
        return [GoldenCase(spec, batch, {"loss_fine_grained": 2.5})]

    def terms(self, spec: FineGrained, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        masks = imitation_masks(batch, threshold=spec.threshold)
        total = shard_normalizer(
            sum(mask.sum() for mask in masks), head=batch.student.head_adapter.head, like=masks[0]
        )
        return {
            "loss_fine_grained": [
                spec.weight
                * fine_grained_loss(student_BCHW, teacher_BCHW, mask_BHW=masks[level], total=total)
                for level, (student_BCHW, teacher_BCHW) in enumerate(
                    self.feature_pairs(batch, adapters)
                )
            ]
        }


def imitation_masks(batch: DistillationBatch, *, threshold: float) -> list[Tensor]:
    """Masks of locations near an object by level, (B, H, W), bool.

    Anchors are those of the student's head, or squares of 8 strides where it has only points.
    """
    features = batch.student.features
    # The best anchor of a box is searched over all levels: within one level, even a poor anchor
    # would be the best and count as near.
    anchors_PA4 = torch.cat([_anchors(batch, level) for level in range(batch.num_levels)])
    by_image = torch.stack(
        [imitation_mask(anchors_PA4, boxes_M4, threshold=threshold) for boxes_M4 in batch.boxes]
    )
    sizes = [maps.shape[-2:] for maps in features]
    by_level = by_image.split([height * width for height, width in sizes], dim=1)
    return [mask.unflatten(1, size) for mask, size in zip(by_level, sizes, strict=True)]


def _anchors(batch: DistillationBatch, level: int) -> Tensor:
    """Anchors at each location of a level, (P, A, 4)."""
    maps = batch.student.features[level]
    generator = batch.student.head_adapter.head.prior_generator
    priors = generator.single_level_grid_priors(
        maps.shape[-2:], level_idx=level, device=maps.device
    )
    if priors.shape[-1] == 4:
        return priors.unflatten(0, (maps.shape[-2] * maps.shape[-1], -1))
    half = _POINT_ANCHOR_STRIDES / 2.0 * batch.student.head_adapter.strides[level]
    return torch.cat([priors - half, priors + half], dim=1).unsqueeze(1)
