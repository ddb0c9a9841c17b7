"""CWD: imitation of spatial attention maps."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from configs.spec.distillation import Cwd
from workers.distillation.batch import DistillationBatch
from workers.distillation.losses.features import cwd_loss
from workers.distillation.methods.base import FeatureMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch


class CwdMethod(FeatureMethod[Cwd]):
    """Shu et al., ICCV 2021."""

    spec_type = Cwd

    def golden_cases(self) -> Sequence[GoldenCase]:
        """KL((1/4, 3/4) || (1/2, 1/2)) = 3/4 ln 3 - ln 2, times the weight."""
        teacher = torch.tensor([[[[0.0, math.log(3.0)]]]])
        batch = make_golden_batch(GoldenOutputs([teacher * 0.0]), GoldenOutputs([teacher]))
        loss = 10.0 * (0.75 * math.log(3.0) - math.log(2.0))
        return [GoldenCase(Cwd(weight=10.0), batch, {"loss_cwd": loss})]

    def terms(self, spec: Cwd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        return {
            "loss_cwd": [
                spec.weight * cwd_loss(student_BCHW, teacher_BCHW, temperature=spec.temperature)
                for student_BCHW, teacher_BCHW in self.feature_pairs(batch, adapters)
            ]
        }
