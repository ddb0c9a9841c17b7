"""PKD: imitation of normalized feature maps."""

from collections.abc import Sequence

import torch
from torch import nn

from configs.spec.distillation import Pkd
from workers.distillation.batch import DistillationBatch
from workers.distillation.losses.features import pkd_loss
from workers.distillation.methods.base import FeatureMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch


class PkdMethod(FeatureMethod[Pkd]):
    """Cao et al., NeurIPS 2022."""

    spec_type = Pkd

    def golden_cases(self) -> Sequence[GoldenCase]:
        """Maps without correlation: one minus 0, times the weight."""
        student = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        batch = make_golden_batch(
            GoldenOutputs([student]), GoldenOutputs([student.transpose(2, 3)])
        )
        return [GoldenCase(Pkd(weight=6.0), batch, {"loss_pkd": 6.0})]

    def terms(self, spec: Pkd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        return {
            "loss_pkd": [
                spec.weight * pkd_loss(student_BCHW, teacher_BCHW)
                for student_BCHW, teacher_BCHW in self.feature_pairs(batch, adapters)
            ]
        }
