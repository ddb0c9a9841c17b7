"""Golden cases of methods: batches that are small enough to work out the losses by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from configs.spec.distillation import MethodSpec
from workers.distillation.batch import DetectorOutputs, DistillationBatch
from workers.distillation.head_adapters.base import HeadAdapter
from workers.distillation.head_adapters.label_assignment import Assignment
from workers.distillation.head_adapters.positions import flatten_positions

_STRIDE = 8


@dataclass(frozen=True)
class GoldenOutputs:
    """Outputs of one detector, by level. What is left out is 0, with one class."""

    features: Sequence[Tensor]
    """(B, D, H, W)."""

    logits: Sequence[Tensor] = ()
    """(B, C, H, W)."""

    boxes: Sequence[Tensor] = ()
    """(B, 4, H, W): left, top, right and bottom edge, in strides."""


@dataclass(frozen=True)
class GoldenCase:
    """A batch, and the sum of each loss term over its levels."""

    spec: MethodSpec
    batch: DistillationBatch
    expected: Mapping[str, float]
    adapters: nn.ModuleDict = field(default_factory=nn.ModuleDict)


class GoldenHeadAdapter(HeadAdapter):
    """Reads boxes as they are; the head has no layers."""

    def read_assignment(self, targets: Any) -> Assignment:
        raise NotImplementedError("a golden batch has its assignment already")

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:  # noqa: ARG002
        return flatten_positions(maps_BDHW, 4)


def make_golden_batch(
    student: GoldenOutputs,
    teacher: GoldenOutputs,
    *,
    labels: Sequence[Tensor] | None = None,
    boxes: Sequence[Tensor] = (),
) -> DistillationBatch:
    """A batch of given outputs. `labels`: class at each position by level, (N,), and -1 where there
    is no object; None for class 0 everywhere. `boxes`: objects of each image, (M, 4), in pixels.
    """
    student_side, teacher_side = (_make_outputs(side) for side in (student, teacher))
    logits = student_side.outputs[0]
    num_classes = logits[0].shape[1]
    if labels is None:
        labels = [torch.zeros(maps[:, 0].numel(), dtype=torch.int64) for maps in logits]
    labels_N = [torch.where(level < 0, num_classes, level) for level in labels]
    assignment = Assignment(
        labels_N=labels_N,
        label_weight_N=[torch.ones(len(level)) for level in labels_N],
        num_pos=float(max(1, sum(int((level < num_classes).sum()) for level in labels_N))),
        num_classes=num_classes,
    )
    return DistillationBatch(
        student_side, teacher_side, assignment=assignment, boxes=list(boxes), teacher_columns=None
    )


def _make_outputs(side: GoldenOutputs) -> DetectorOutputs:
    logits = list(side.logits) or [torch.zeros_like(maps[:, :1]) for maps in side.features]
    boxes = list(side.boxes) or [maps[:, :1].expand(-1, 4, -1, -1) * 0.0 for maps in logits]
    strides = [(_STRIDE << level, _STRIDE << level) for level in range(len(logits))]
    head = SimpleNamespace(
        num_classes=logits[0].shape[1],
        cls_out_channels=logits[0].shape[1],
        prior_generator=SimpleNamespace(strides=strides),
    )
    return DetectorOutputs(GoldenHeadAdapter(head), tuple(side.features), outputs=(logits, boxes))
