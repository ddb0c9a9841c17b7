"""Logit distillation of softened class distributions."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from configs.spec.distillation import LogitKd
from workers.distillation.batch import DistillationBatch
from workers.distillation.losses.softened import logit_divergence_loss
from workers.distillation.methods.base import DistillationMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch


class LogitKdMethod(DistillationMethod[LogitKd]):
    """Hinton et al., 2015, at the positive positions."""

    spec_type = LogitKd

    def golden_cases(self) -> Sequence[GoldenCase]:
        """KL((1/4, 3/4) || (1/2, 1/2)) = 3/4 ln 3 - ln 2, averaged over two classes."""
        teacher = torch.tensor([0.0, math.log(3.0)]).reshape(1, 2, 1, 1)
        sides = [GoldenOutputs([logits], logits=[logits]) for logits in (teacher * 0.0, teacher)]
        loss = (0.75 * math.log(3.0) - math.log(2.0)) / 2.0
        spec = LogitKd(weight=1.0, temperature=1.0)
        return [GoldenCase(spec, make_golden_batch(*sides), {"loss_logit_kd": loss})]

    def terms(self, spec: LogitKd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:  # noqa: ARG002
        assignment = batch.assignment
        return {
            "loss_logit_kd": [
                spec.weight
                * logit_divergence_loss(
                    batch.student_logits(level),
                    batch.teacher_logits(level),
                    positive_N=assignment.positive_indices[level],
                    label_weight_N=assignment.label_weight_N[level],
                    temperature=spec.temperature,
                    num_pos=assignment.num_pos,
                )
                for level in range(batch.num_levels)
            ]
        }
