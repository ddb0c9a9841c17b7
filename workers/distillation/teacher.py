"""The teacher beside the student: frozen, in eval mode, and no part of the student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmcv import ConfigDict
from mmdet.models import build_detector
from torch import Tensor

from workers.checkpoints import load_teacher_weights

HeadOutputs = tuple[list[Tensor], list[Tensor]]
"""Class logits (B, C, H, W) and edge distributions (B, 4 * (reg_max + 1), H, W) by level."""


class Teacher:
    """A detector that only looks.

    It is a plain object and not a module, so it stays out of the student's parameters, state dict,
    train mode and gradient synchronisation.
    """

    def __init__(self, config: ConfigDict, *, checkpoint: Path, sha256: str | None) -> None:
        self.detector: Any = build_detector(config)
        self.sha256 = load_teacher_weights(self.detector, checkpoint, sha256=sha256)
        self.detector.eval()
        self.detector.requires_grad_(requires_grad=False)

    @property
    def head(self) -> Any:
        """Its GFL head."""
        return self.detector.bbox_head

    def look(self, images_B3HW: Tensor) -> HeadOutputs:
        """What it says at every position, without gradients."""
        with torch.no_grad():
            logits, distributions = self.detector.bbox_head(self.detector.extract_feat(images_B3HW))
        return list(logits), list(distributions)

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Follow the student to another device."""
        self.detector._apply(change)
