"""BCKD: binary classification and IoU-based localization distillation."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from configs.spec.distillation import Bckd
from workers.distillation.batch import DistillationBatch
from workers.distillation.head_adapters.positions import level_sums
from workers.distillation.losses.bckd import (
    classification_losses,
    disagreement,
    localization_losses,
)
from workers.distillation.methods.base import DistillationMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch


class BckdMethod(DistillationMethod[Bckd]):
    """Yang et al., ICCV 2023: sections 3.2 and 3.3, for all levels at once."""

    spec_type = Bckd

    def golden_cases(self) -> Sequence[GoldenCase]:
        """Scores of 1/2 and 3/4, boxes with a GIoU of 1/2: cls 1/4 ln 2, loc 4 * 1/4 * 1/2."""
        teacher = torch.full((1, 1, 1, 1), math.log(3.0))
        heights = (2.0, 4.0)
        boxes = [torch.tensor([0.0, 0.0, 2.0, height]).reshape(1, 4, 1, 1) for height in heights]
        student_side, teacher_side = (
            GoldenOutputs([logits], logits=[logits], boxes=[edges])
            for logits, edges in zip((teacher * 0.0, teacher), boxes, strict=True)
        )
        batch = make_golden_batch(student_side, teacher_side)
        expected = {"loss_distill_cls": math.log(2.0) / 4.0, "loss_distill_loc": 0.5}
        return [GoldenCase(Bckd(), batch, expected)]

    def terms(self, spec: Bckd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:  # noqa: ARG002
        assignment = batch.assignment
        levels = (
            assignment.levels_with_positives
            if spec.levels == "with_positives"
            else list(range(batch.num_levels))
        )
        weights = {"loss_distill_cls": spec.cls_weight, "loss_distill_loc": spec.loc_weight}
        zero = batch.student.outputs[0][0].sum() * 0.0
        terms: Terms = {
            name: [zero] * batch.num_levels for name, weight in weights.items() if weight
        }
        if not levels:
            return terms
        for name, loss_N in _bckd_losses(spec, batch, levels):
            sums = level_sums(loss_N, [len(assignment.labels_N[level]) for level in levels])
            normalized_L = weights[name] * (torch.stack(sums) / assignment.num_pos)
            for level, value in zip(levels, normalized_L.unbind(), strict=True):
                terms[name][level] = value
        return terms


def _bckd_losses(
    spec: Bckd, batch: DistillationBatch, levels: list[int]
) -> Iterator[tuple[str, Tensor]]:
    """Yield each term's name and its values at the positions of some levels, (N,)."""
    logits_NC, teacher_logits_NC = (
        torch.cat([read_logits(level) for level in levels])
        for read_logits in (batch.student_logits, batch.teacher_logits)
    )
    label_weight_N = torch.cat([batch.assignment.label_weight_N[level] for level in levels])
    disagreement_NC = disagreement(logits_NC, teacher_logits_NC)
    if spec.cls_weight:
        loss_N = classification_losses(logits_NC, teacher_logits_NC, disagreement_NC)
        yield "loss_distill_cls", loss_N * label_weight_N
    if spec.loc_weight:
        yield (
            "loss_distill_loc",
            localization_losses(
                batch.decode_levels(batch.student, levels),
                batch.decode_levels(batch.teacher, levels),
                importance_N=disagreement_NC.detach().amax(dim=1) * label_weight_N,
            ),
        )
