"""PKD: imitation of normalized feature maps."""

from torch import nn

from configs.spec.distillation import Pkd
from workers.distillation.batch import DistillationBatch
from workers.distillation.losses.features import pkd_loss
from workers.distillation.methods.base import FeatureMethod, Terms


class PkdMethod(FeatureMethod[Pkd]):
    """Cao et al., NeurIPS 2022."""

    spec_type = Pkd

    def terms(self, spec: Pkd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        return {
            "loss_pkd": [
                spec.weight * pkd_loss(student_BCHW, teacher_BCHW)
                for student_BCHW, teacher_BCHW in self.feature_pairs(batch, adapters)
            ]
        }
