"""mmdet's dense heads, keeping the label assignment of a batch; same parameters, same losses."""

from typing import Any

import torch
from mmdet.core import reduce_mean
from mmdet.models import HEADS
from mmdet.models.dense_heads import ATSSHead, FCOSHead, GFLHead, RetinaHead, VFNetHead


class RemembersTargets:
    """Keeps what `get_targets` said, for the distillation losses of the same batch."""

    targets: Any = None

    def get_targets(self, *args: Any, **kwargs: Any) -> Any:
        """mmdet's label assignment."""
        self.targets = super().get_targets(*args, **kwargs)  # type: ignore[misc]
        return self.targets


@HEADS.register_module()
class TandemGFLHead(RemembersTargets, GFLHead):
    """Generalized Focal Loss."""


@HEADS.register_module()
class TandemATSSHead(RemembersTargets, ATSSHead):
    """ATSS."""


@HEADS.register_module()
class TandemFCOSHead(RemembersTargets, FCOSHead):
    """FCOS."""


@HEADS.register_module()
class TandemVFNetHead(RemembersTargets, VFNetHead):
    """VarifocalNet."""


@HEADS.register_module()
class TandemRetinaHead(RemembersTargets, RetinaHead):
    """RetinaNet; its normaliser is the mean over the processes, as in all other heads."""

    def get_targets(self, *args: Any, **kwargs: Any) -> Any:
        """mmdet's label assignment; mmdet alone would count the positives of one process."""
        *rest, num_pos, num_neg = super().get_targets(*args, **kwargs)
        positives = torch.tensor(float(num_pos), device=rest[0][0].device)
        self.targets = (*rest, float(reduce_mean(positives)), num_neg)
        return self.targets
