"""Distillation of images without labels: the teacher's outputs are the target at every position."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workers.distillation.anchor_grid import get_valid_size
from workers.distillation.batch import DetectorOutputs, DistillationBatch, select_classes
from workers.distillation.head_adapters.label_assignment import ScoreAssignment, shard_normalizer


def make_unlabelled_batch(
    student: DetectorOutputs,
    teacher: DetectorOutputs,
    *,
    metas: Sequence[dict[str, Any]],
    teacher_columns: Tensor | None,
) -> DistillationBatch:
    """A batch without boxes, for methods that need no labels; `metas` are mmdet's `img_metas`.

    Losses are normalized by the teacher's highest score at each position, summed over the images of
    all processes: where an assigner would count a position, this counts how sure the teacher is
    (as Dense Teacher, Zhou et al., ECCV 2022). Positions in the padding between images have no
    weight.
    """
    head = student.head_adapter.head
    pad_shapes = [meta["pad_shape"][:2] for meta in metas]
    scores, weights = [], []
    for level, maps_BDHW in enumerate(student.outputs[0]):
        score_N = _highest_scores(teacher, level, columns=teacher_columns)
        valid_BHW = find_valid_locations(
            maps_BDHW, pad_shapes, stride=student.head_adapter.strides[level]
        )
        anchors = len(score_N) // valid_BHW.numel()
        scores.append(score_N)
        weights.append(valid_BHW.flatten().repeat_interleave(anchors).float())
    totals = [(score_N * weight_N).sum() for score_N, weight_N in zip(scores, weights, strict=True)]
    assignment = ScoreAssignment(
        labels_N=[
            torch.full_like(score_N, head.num_classes, dtype=torch.long) for score_N in scores
        ],
        label_weight_N=weights,
        num_pos=shard_normalizer(torch.stack(totals).sum(), head=head, like=scores[0]),
        num_classes=head.num_classes,
    )
    boxes = [scores[0].new_zeros((0, 4)) for _ in metas]
    return DistillationBatch(
        student,
        teacher,
        assignment,
        boxes,
        teacher_columns,
        image_seeds=tuple(meta["seed"] for meta in metas),
    )


def find_valid_locations(
    maps_BDHW: Tensor, pad_shapes: Sequence[Sequence[int]], *, stride: int
) -> Tensor:
    """Which locations of a level are within each image's own padding, (B, H, W).

    `pad_shapes` are heights and widths in pixels. Nothing is copied to the device.
    """
    size = maps_BDHW.shape[-2:]
    valid_BHW = maps_BDHW.new_zeros((len(pad_shapes), *size), dtype=torch.bool)
    for valid_HW, pad_shape in zip(valid_BHW, pad_shapes, strict=True):
        rows, columns = get_valid_size(pad_shape, size=size, stride=stride)
        valid_HW[:rows, :columns] = True
    return valid_BHW


def _highest_scores(teacher: DetectorOutputs, level: int, *, columns: Tensor | None) -> Tensor:
    """The teacher's highest score among the student's classes, (N,)."""
    logits_NC = teacher.head_adapter.class_logits(teacher.outputs, level)
    return select_classes(logits_NC, columns).amax(dim=1).sigmoid()
