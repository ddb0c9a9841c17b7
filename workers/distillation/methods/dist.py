"""DIST: correlations of class scores instead of the scores themselves."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from configs.spec.distillation import Dist
from workers.distillation.batch import DistillationBatch
from workers.distillation.head_adapters.positions import level_sums
from workers.distillation.losses.correlation import correlation_losses
from workers.distillation.methods.base import Adapters, DistillationMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch
from workers.errors import MethodMismatch

_MIN_CLASSES = 3


class DistMethod(DistillationMethod[Dist]):
    """Huang et al., NeurIPS 2022, for sigmoid scores, as in the authors' RetinaNet.

    Their code correlates over all locations of a map; here the positive positions of all levels
    are correlated together. Those of each process and micro-batch are correlated on their own for
    the intra-class term: correlations of parts of a batch do not add up to that of the batch.
    """

    spec_type = Dist

    def golden_cases(self) -> Sequence[GoldenCase]:
        """Scores of 1/10 and 9/10. The teacher's first two positions are exchanged.

        These two have correlation 0 over the classes, the others 1: mean 1/2, times 2. Over the
        positions the two inner classes have correlation 0, the outer ones 1: 1/2, times 3.
        """
        signs_KC = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [-1, 1, -1, 1], [-1, -1, 1, 1]])
        logits_KC = signs_KC * math.log(9.0)
        student, teacher = (
            GoldenOutputs([maps], logits=[maps])
            for maps in (
                logits_KC[order].T.reshape(1, 4, 2, 2) for order in ([0, 1, 2, 3], [1, 0, 2, 3])
            )
        )
        spec = Dist(inter_weight=2.0, intra_weight=3.0)
        expected = {"loss_dist_inter": 1.0, "loss_dist_intra": 1.5}
        return [GoldenCase(spec, make_golden_batch(student, teacher), expected)]

    def build_adapters(self, spec: Dist, student: Any, teacher: Any) -> Adapters:  # noqa: ARG002
        """There are none. Raises `MethodMismatch` if the classes are too few to correlate."""
        num_classes = student.bbox_head.num_classes
        if spec.inter_weight and num_classes < _MIN_CLASSES:
            raise MethodMismatch(
                f"distillation method dist: inter_weight correlates over at least {_MIN_CLASSES} "
                f"classes, and the dataset has {num_classes}; set inter_weight to 0."
            )
        return {}

    def terms(self, spec: Dist, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:  # noqa: ARG002
        positives = batch.assignment.positive_indices
        sizes = [len(indices) for indices in positives]
        student_KC, teacher_KC = (
            torch.cat([read_logits(level)[indices] for level, indices in enumerate(positives)])
            for read_logits in (batch.student_logits, batch.teacher_logits)
        )
        terms: Terms = {}
        scores = student_KC.sigmoid(), teacher_KC.sigmoid()
        if spec.inter_weight:
            losses_K = correlation_losses(*scores, dim=1) / batch.assignment.num_pos
            terms["loss_dist_inter"] = level_sums(spec.inter_weight * losses_K, sizes)
        if spec.intra_weight:
            losses_K = correlation_losses(*scores, dim=0) / max(sum(sizes), 1)
            terms["loss_dist_intra"] = level_sums(spec.intra_weight * losses_K, sizes)
        return terms
