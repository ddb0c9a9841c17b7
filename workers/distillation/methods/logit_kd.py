"""Logit distillation of softened class distributions."""

from torch import nn

from configs.spec.distillation import LogitKd
from workers.distillation.batch import DistillationBatch
from workers.distillation.losses.softened import logit_divergence_loss
from workers.distillation.methods.base import DistillationMethod, Terms


class LogitKdMethod(DistillationMethod[LogitKd]):
    """Hinton et al., 2015, at the positive positions."""

    spec_type = LogitKd

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
