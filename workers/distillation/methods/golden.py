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


class GoldenHeadAdapter(HeadAdapter):
    """Reads boxes as they are; the head has only the layers that a case gives it."""

    last_layers = ("class_layer", "box_layer")

    def read_assignment(self, targets: Any) -> Assignment:
        raise NotImplementedError("a golden batch has its assignment already")

    def _scale(self, maps_BDHW: Tensor, level: int) -> Tensor:  # noqa: ARG002
        return maps_BDHW

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:  # noqa: ARG002
        return flatten_positions(maps_BDHW, 4)


@dataclass(frozen=True)
class GoldenOutputs:
    """Outputs of one detector, by level. What is left out is 0, with one class."""

    features: Sequence[Tensor]
    """(B, D, H, W)."""

    logits: Sequence[Tensor] = ()
    """(B, C, H, W)."""

    boxes: Sequence[Tensor] = ()
    """(B, 4, H, W): left, top, right and bottom edge, in strides; or what `adapter` reads."""

    anchors: Sequence[Tensor] = ()
    """(H x W, 4), in pixels: an anchor at each location."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Further attributes of the head, such as its layers."""

    adapter: type[HeadAdapter] = GoldenHeadAdapter


@dataclass(frozen=True)
class GoldenCase:
    """A batch, and the sum of each loss term over its levels."""

    spec: MethodSpec
    batch: DistillationBatch
    expected: Mapping[str, float]
    adapters: nn.ModuleDict = field(default_factory=nn.ModuleDict)


@dataclass(frozen=True)
class GoldenPriors:
    """The anchors of a head, as mmdet's generators return them."""

    strides: Sequence[tuple[int, int]]
    anchors: Sequence[Tensor]

    def grid_priors(self, _sizes: Any, *, device: torch.device) -> list[Tensor]:
        """Anchors of all levels, (P, 4)."""
        return [anchors_P4.to(device) for anchors_P4 in self.anchors]

    def single_level_grid_priors(
        self, _size: Any, *, level_idx: int, device: torch.device
    ) -> Tensor:
        """Anchors of one level, (P, 4)."""
        return self.anchors[level_idx].to(device)


def make_golden_batch(
    student: GoldenOutputs,
    teacher: GoldenOutputs,
    *,
    labels: Sequence[Tensor] | None = None,
    boxes: Sequence[Tensor] = (),
) -> DistillationBatch:
    """A batch of given outputs; the seed of each image is its position.

    `labels`: class at each position by level, (N,), and -1 where there is no object; None for class
    0 everywhere. `boxes`: objects of each image, (M, 4), in pixels.
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
        student_side,
        teacher_side,
        assignment=assignment,
        boxes=list(boxes),
        teacher_columns=None,
        image_seeds=tuple(range(len(logits[0]))),
    )


def make_anchor_row() -> Tensor:
    """Three anchors, (3, 4), in pixels. Their IoUs with the first one are 1, 1/3 and 0, and their
    DIoUs 1, 1/3 - 1/13 and less than 0."""
    left_3 = torch.tensor([0.0, 4.0, 24.0])
    return torch.stack([left_3, left_3 * 0.0, left_3 + 8.0, left_3 * 0.0 + 8.0], dim=1)


def _make_outputs(side: GoldenOutputs) -> DetectorOutputs:
    logits = list(side.logits) or [torch.zeros_like(maps[:, :1]) for maps in side.features]
    boxes = list(side.boxes) or [maps[:, :1].expand(-1, 4, -1, -1) * 0.0 for maps in logits]
    strides = [(_STRIDE << level, _STRIDE << level) for level in range(len(logits))]
    head = SimpleNamespace(
        num_classes=logits[0].shape[1],
        cls_out_channels=logits[0].shape[1],
        prior_generator=GoldenPriors(strides, side.anchors),
        **side.attributes,
    )
    return DetectorOutputs(side.adapter(head), tuple(side.features), outputs=(logits, boxes))
