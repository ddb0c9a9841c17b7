"""The teacher of a student: a frozen detector in eval mode, outside of the student's module."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import torch
from mmcv import ConfigDict
from mmcv.cnn import fuse_conv_bn
from mmdet.models import build_detector
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from configs.spec.compute import Precision
from workers.checkpoints.files import compute_weights_sha256, load_teacher_weights
from workers.distillation.batch import DetectorOutputs
from workers.distillation.forward import forward_detector
from workers.distillation.head_adapters.registry import build_head_adapter
from workers.process.device import matmul_precision

_UNTRAINED_SEED = 0
"""The seed of untrained weights: runs of all seeds have the same teacher, as with a trained one."""

_NOISE_SHAPE = (2, 3, 256, 256)

ImageKind = Literal["labeled", "unlabelled"]
"""Images of a step that are batches of their own."""

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
    config: ConfigDict, *, checkpoint: Path | None, sha256: str | None, precision: Precision
) -> "Teacher":
    """Load a teacher, or return the shared one within `share_teachers`.

    Without a checkpoint it has untrained weights, the same in all runs and processes.

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
        self,
        config: ConfigDict,
        *,
        checkpoint: Path | None,
        sha256: str | None,
        precision: Precision,
    ) -> None:
        self.detector, self.sha256 = (
            _draw_untrained_detector(config)
            if checkpoint is None
            else _load_detector(config, checkpoint, sha256=sha256)
        )
        self.head_adapter = build_head_adapter(self.detector.bbox_head)
        self.precision: Precision = precision
        self.detector.eval()
        with torch.no_grad():
            fuse_conv_bn(self.detector)
        self.detector.requires_grad_(requires_grad=False)
        self._last: dict[str, tuple[Tensor, DetectorOutputs]] = {}

    def forward(
        self, images_B3HW: Tensor, *, batch: Tensor, kind: ImageKind = "labeled"
    ) -> DetectorOutputs:
        """Run the teacher without gradients, or return its cached outputs.

        `batch` identifies the batch in the cache: the training loop's own tensor, of which
        `images_B3HW` may be a copy in another memory format. The last batch of each kind is kept.
        """
        cached = self._last.get(kind)
        if cached is not None and cached[0] is batch:
            return cached[1]
        del cached
        self._last.pop(kind, None)  # frees its memory before the next forward pass
        outputs = self._forward(images_B3HW)
        if self.caches_outputs:
            self._last[kind] = (batch, outputs)
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


def _load_detector(config: ConfigDict, checkpoint: Path, *, sha256: str | None) -> tuple[Any, str]:
    """A detector with the weights of a file, and the file's SHA-256."""
    detector = build_detector(config)
    return detector, load_teacher_weights(detector, checkpoint, sha256=sha256)


def _draw_untrained_detector(config: ConfigDict) -> tuple[Any, str]:
    """A detector with the weights that training would begin with, and their SHA-256."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_UNTRAINED_SEED)
        detector = build_detector(config)
        detector.init_weights()
        # Hashed before the statistics, whose last bits depend on the machine.
        sha256 = compute_weights_sha256(detector.state_dict())
        _measure_statistics(detector)
    return detector, sha256


def _measure_statistics(detector: Any) -> None:
    """Set the statistics of all BatchNorms to those of noise.

    With the initial mean 0 and variance 1 the features of deep backbones would vanish.
    """
    detector.eval()
    for module in detector.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0
            module.train()
    with torch.no_grad():
        detector.bbox_head(detector.extract_feat(torch.randn(_NOISE_SHAPE)))
