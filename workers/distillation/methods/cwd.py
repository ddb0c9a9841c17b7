"""CWD: imitation of spatial attention maps."""

from torch import nn

from configs.spec.distillation import Cwd
from workers.distillation.batch import DistillationBatch
from workers.distillation.losses.features import cwd_loss
from workers.distillation.methods.base import FeatureMethod, Terms


class CwdMethod(FeatureMethod[Cwd]):
    """Shu et al., ICCV 2021."""

    spec_type = Cwd

    def terms(self, spec: Cwd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        return {
            "loss_cwd": [
                spec.weight * cwd_loss(student_BCHW, teacher_BCHW, temperature=spec.temperature)
                for student_BCHW, teacher_BCHW in self.feature_pairs(batch, adapters)
            ]
        }
