"""The teacher beside the student: frozen, in eval mode, and no part of the student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmcv import ConfigDict
from mmdet.models import build_detector
from torch import Tensor

from configs.spec import Precision
from workers.checkpoints import load_teacher_weights
from workers.distillation.precision import look_at
from workers.distillation.scene import Side
from workers.distillation.views import view_of


class Teacher:
    """A detector that only looks.

    It is a plain object and not a module, so it stays out of the student's parameters, state dict,
    train mode and gradient synchronisation.
    """

    def __init__(
        self, config: ConfigDict, *, checkpoint: Path, sha256: str | None, precision: Precision
    ) -> None:
        self.detector: Any = build_detector(config)
        self.sha256 = load_teacher_weights(self.detector, checkpoint, sha256=sha256)
        self.view = view_of(self.detector.bbox_head)
        self.precision: Precision = precision
        self.detector.eval()
        self.detector.requires_grad_(requires_grad=False)

    def look(self, images_B3HW: Tensor) -> Side:
        """What it makes of a batch, without gradients."""
        with torch.no_grad():
            features, outputs = look_at(
                images_B3HW, self.detector, view=self.view, precision=self.precision
            )
        return Side(self.view, features=features, outputs=outputs)

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Follow the student to another device."""
        self.detector._apply(change)
