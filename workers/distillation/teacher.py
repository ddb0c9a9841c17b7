"""The teacher beside the student: frozen, in eval mode, and no part of the student."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from mmcv import ConfigDict
from mmdet.models import build_detector
from torch import Tensor

from configs.spec.compute import Precision
from workers.checkpoints.files import load_teacher_weights
from workers.distillation.batch import DetectorOutputs
from workers.distillation.forward import forward_detector
from workers.distillation.head_adapters import build_head_adapter
from workers.process.device import matmul_precision

_shared: ContextVar[dict[tuple[object, ...], "Teacher"] | None] = ContextVar("shared", default=None)


@contextmanager
def share_teachers() -> Iterator[None]:
    """Students that are built herein and name one teacher have one, which looks at a batch once."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def get_or_load_teacher(
    config: ConfigDict, *, checkpoint: Path, sha256: str | None, precision: Precision
) -> "Teacher":
    """The teacher of a student: its own, or the one that it shares.

    Raises `TeacherMismatch` if the checkpoint is not the one that is meant.
    """
    at_hand = _shared.get()
    if at_hand is None:
        return Teacher(config, checkpoint=checkpoint, sha256=sha256, precision=precision)
    key = (repr(config), checkpoint, sha256, precision)
    if key not in at_hand:
        at_hand[key] = Teacher(config, checkpoint=checkpoint, sha256=sha256, precision=precision)
        at_hand[key].caches_outputs = True
    return at_hand[key]


class Teacher:
    """A detector that only looks.

    It is a plain object and not a module, so it stays out of the student's parameters, state dict,
    train mode and gradient synchronisation.
    """

    caches_outputs = False
    """Whether it keeps what it made of the last batch, for the next student."""

    def __init__(
        self, config: ConfigDict, *, checkpoint: Path, sha256: str | None, precision: Precision
    ) -> None:
        self.detector: Any = build_detector(config)
        self.sha256 = load_teacher_weights(self.detector, checkpoint, sha256=sha256)
        self.head_adapter = build_head_adapter(self.detector.bbox_head)
        self.precision: Precision = precision
        self.detector.eval()
        self.detector.requires_grad_(requires_grad=False)
        self._last: tuple[Tensor, DetectorOutputs] | None = None

    def forward(self, images_B3HW: Tensor, *, batch: Tensor) -> DetectorOutputs:
        """What it makes of a batch, without gradients.

        `batch` is what the loop gave: `images_B3HW` may be the same in another memory format.
        """
        if self._last is not None and self._last[0] is batch:
            return self._last[1]
        self._last = None  # before the next one takes memory
        side = self._look(images_B3HW)
        if self.caches_outputs:
            self._last = (batch, side)
        return side

    def _look(self, images_B3HW: Tensor) -> DetectorOutputs:
        with torch.no_grad(), matmul_precision(self.precision):
            features, outputs = forward_detector(
                images_B3HW, self.detector, head_adapter=self.head_adapter, precision=self.precision
            )
        return DetectorOutputs(self.head_adapter, features=features, outputs=outputs)

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Follow the student to another device."""
        self.detector._apply(change)
        self.head_adapter.move(change)
