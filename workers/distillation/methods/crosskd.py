"""CrossKD: the student's features pass through the teacher's head."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from configs.spec.distillation import CrossKd
from workers.distillation.batch import DistillationBatch
from workers.distillation.head_adapters.anchor_heads import GflHeadAdapter
from workers.distillation.head_adapters.base import Outputs
from workers.distillation.losses.bckd import classification_loss, localization_loss
from workers.distillation.losses.softened import edge_divergence_loss
from workers.distillation.methods.base import Adapters, DistillationMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch

_TEMPERATURE = 1.0

_CLS, _LOC = "crosskd_cls", "crosskd_loc"
"""Names of the adapters of the two towers in the state dict."""


class CrossKdMethod(DistillationMethod[CrossKd]):
    """Wang et al., CVPR 2024, sections 3.2 and 3.3, implemented from the paper.

    Classification: quality focal loss to the teacher's scores at every position, which equals
    BCKD's classification loss for exponent 1. Localization at the positives: GIoU, or LD's
    divergence where edges are distributions.
    """

    spec_type = CrossKd

    def build_adapters(self, spec: CrossKd, student: Any, teacher: Any) -> Adapters:
        """Build a 1x1 convolution for each tower that a term uses, where widths differ."""
        student_width = _tower_width(student, spec.after_convs)
        teacher_width = _tower_width(teacher, spec.after_convs)
        if student_width == teacher_width:
            return {}
        weights = {_CLS: spec.cls_weight, _LOC: spec.loc_weight}
        return {
            name: nn.Conv2d(student_width, teacher_width, 1)
            for name, weight in weights.items()
            if weight
        }

    def golden_cases(self) -> Sequence[GoldenCase]:
        """The student's convolution doubles its feature 1, and the teacher's second one adds 4; its
        first one is left out.

        Of the 6 the class layer takes away 6: a score of 1/2 against the teacher's 3/4 costs 1/4
        ln 2. The box layer makes an edge of 2 of it, a quarter of the teacher's area and of the
        enclosing box: the GIoU is 1/4, which costs 3/4, times 4.
        """
        edges = torch.tensor([0.0, 0.0, 1.0, 1.0]).reshape(1, 4, 1, 1)
        student_convs = [lambda maps: maps * 2.0]
        teacher_convs = [lambda maps: maps * math.nan, lambda maps: maps + 4.0]
        batch = make_golden_batch(
            GoldenOutputs(
                [torch.ones(1, 1, 1, 1)],
                attributes={"cls_convs": student_convs, "reg_convs": student_convs},
            ),
            GoldenOutputs(
                [torch.ones(1, 1, 1, 1)],
                logits=[torch.full((1, 1, 1, 1), math.log(3.0))],
                boxes=[edges * 4.0],
                attributes={
                    "cls_convs": teacher_convs,
                    "reg_convs": teacher_convs,
                    "class_layer": lambda maps: maps - 6.0,
                    "box_layer": lambda maps: edges * maps / 3.0,
                },
            ),
        )
        expected = {"loss_crosskd_cls": math.log(2.0) / 4.0, "loss_crosskd_loc": 3.0}
        return [GoldenCase(CrossKd(after_convs=1), batch, expected)]

    def terms(self, spec: CrossKd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        terms: Terms = {}
        for level in range(batch.num_levels):
            if spec.cls_weight:
                terms.setdefault("loss_crosskd_cls", []).append(
                    spec.cls_weight * _cls_loss(spec, batch, level, adapters)
                )
            if spec.loc_weight:
                terms.setdefault("loss_crosskd_loc", []).append(
                    spec.loc_weight * _loc_loss(spec, batch, level, adapters)
                )
        return terms


def _tower_width(detector: Any, after_convs: int) -> int:
    head = detector.bbox_head
    return int(head.feat_channels if after_convs else head.in_channels)


def _cross_tower(
    batch: DistillationBatch, level: int, *, tower: str, after_convs: int, adapter: nn.Module | None
) -> Tensor:
    """Run the student's features through its first convolutions, then the rest of the teacher's."""
    student_convs, teacher_convs = (
        getattr(side.head_adapter.head, tower) for side in (batch.student, batch.teacher)
    )
    maps = batch.student.features[level].float()
    for conv in student_convs[:after_convs]:
        maps = conv(maps)
    if adapter is not None:
        maps = adapter(maps)
    for conv in teacher_convs[after_convs:]:
        maps = conv(maps)
    return maps


def _cls_loss(
    spec: CrossKd, batch: DistillationBatch, level: int, adapters: nn.ModuleDict
) -> Tensor:
    head_adapter = batch.teacher.head_adapter
    tower = _cross_tower(
        batch,
        level,
        tower="cls_convs",
        after_convs=spec.after_convs,
        adapter=getattr(adapters, _CLS, None),
    )
    logits_NC = batch.select_student_classes(
        head_adapter.class_logits(([head_adapter.predict_class_maps(tower)],), 0)
    )
    return classification_loss(
        logits_NC,
        batch.teacher_logits(level),
        label_weight_N=batch.assignment.label_weight_N[level],
        num_pos=batch.assignment.num_pos,
    )


def _loc_loss(
    spec: CrossKd, batch: DistillationBatch, level: int, adapters: nn.ModuleDict
) -> Tensor:
    assignment, head_adapter = batch.assignment, batch.teacher.head_adapter
    tower = _cross_tower(
        batch,
        level,
        tower="reg_convs",
        after_convs=spec.after_convs,
        adapter=getattr(adapters, _LOC, None),
    )
    maps = head_adapter.predict_box_maps(tower, level)
    crossed: Outputs = ([], [maps] * batch.num_levels)
    positive_N = assignment.positive_N(level).float()
    if isinstance(head_adapter, GflHeadAdapter):
        return edge_divergence_loss(
            head_adapter.edges(crossed, level),
            head_adapter.edges(batch.teacher.outputs, level),
            weight_N=positive_N,
            temperature=spec.temperature or _TEMPERATURE,
            total_weight=assignment.num_pos,
        )
    return localization_loss(
        head_adapter.decode_boxes(crossed, level),
        batch.decode_boxes(batch.teacher, level),
        importance_N=positive_N,
        num_pos=assignment.num_pos,
    )
