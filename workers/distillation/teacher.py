"""The teacher of a student: a frozen detector in eval mode, outside of the student's module."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from mmcv import ConfigDict
from mmcv.cnn import fuse_conv_bn
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
    """Share one teacher among all students built in this context that name the same one.

    A shared teacher runs once per batch and caches its outputs for the next student.
    """
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def get_or_load_teacher(
    config: ConfigDict, *, checkpoint: Path, sha256: str | None, precision: Precision
) -> "Teacher":
    """Load a teacher, or return the shared one within `share_teachers`.

    Raises `TeacherMismatch` if the checkpoint does not have the given `sha256`.
    """
    cache = _shared.get()
    if cache is None:
        return Teacher(config, checkpoint=checkpoint, sha256=sha256, precision=precision)
    key = (repr(config), checkpoint, sha256, precision)
    if key not in cache:
        cache[key] = Teacher(config, checkpoint=checkpoint, sha256=sha256, precision=precision)
        cache[key].caches_outputs = True
    return cache[key]


class Teacher:
    """A frozen detector, whose BatchNorms are folded into the convolutions before them.

    It is a plain object and not a module, so it stays out of the student's parameters, state dict,
    train mode and gradient synchronization.
    """

    caches_outputs = False
    """Whether it keeps its outputs for the last batch, for the next student of a pack."""

    def __init__(
        self, config: ConfigDict, *, checkpoint: Path, sha256: str | None, precision: Precision
    ) -> None:
        self.detector: Any = build_detector(config)
        self.sha256 = load_teacher_weights(self.detector, checkpoint, sha256=sha256)
        self.head_adapter = build_head_adapter(self.detector.bbox_head)
        self.precision: Precision = precision
        self.detector.eval()
        with torch.no_grad():
            fuse_conv_bn(self.detector)
        self.detector.requires_grad_(requires_grad=False)
        self._last: tuple[Tensor, DetectorOutputs] | None = None

    def forward(self, images_B3HW: Tensor, *, batch: Tensor) -> DetectorOutputs:
        """Run the teacher without gradients, or return its cached outputs.

        `batch` identifies the batch in the cache: the training loop's own tensor, of which
        `images_B3HW` may be a copy in another memory format.
        """
        if self._last is not None and self._last[0] is batch:
            return self._last[1]
        self._last = None  # frees its memory before the next forward pass
        outputs = self._forward(images_B3HW)
        if self.caches_outputs:
            self._last = (batch, outputs)
        return outputs

    def _forward(self, images_B3HW: Tensor) -> DetectorOutputs:
        with torch.no_grad(), matmul_precision(self.precision):
            features, head_outputs = forward_detector(
                images_B3HW, self.detector, head_adapter=self.head_adapter, precision=self.precision
            )
        return DetectorOutputs(self.head_adapter, features=features, outputs=head_outputs)

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Apply `change` to all tensors, as `nn.Module._apply` does to move a module."""
        self.detector._apply(change)
        self.head_adapter.move(change)
