"""A dense detector as we train it: its own losses, and those of the methods that teach it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from mmcv import ConfigDict
from mmdet.models import DETECTORS
from mmdet.models.detectors import SingleStageDetector
from pydantic import TypeAdapter
from torch import Tensor

from configs.spec.compute import Compute
from configs.spec.distillation import Distillation, Method, iter_methods
from workers import distributed
from workers.distillation import heads as _heads  # noqa: F401  registers them
from workers.distillation.activation_checkpointing import enable_activation_checkpointing
from workers.distillation.batch import DetectorOutputs, DistillationBatch
from workers.distillation.forward import forward_detector
from workers.distillation.head_adapters import build_head_adapter
from workers.distillation.loss_budget import LossShareMeter
from workers.distillation.methods import build_feature_adapters, compute_terms
from workers.distillation.teacher import Teacher, get_or_load_teacher
from workers.errors import TeacherMismatch

Losses = dict[str, Any]

_DISTILLATION: TypeAdapter[Distillation] = TypeAdapter(Distillation)


@DETECTORS.register_module()
class TandemDetector(SingleStageDetector):
    """The student: mmdet's detector, key by key, and beside it what helps it to learn.

    `teacher` holds `config` (an mmdet model), `checkpoint`, `sha256` and `columns`; `distillation`
    the fields of a method of `configs.spec`; `compute` those of `configs.spec.Compute`. Raises
    `TeacherMismatch` if the two cannot be compared.
    """

    def __init__(
        self,
        *,
        teacher: ConfigDict | None = None,
        distillation: ConfigDict | None = None,
        compute: ConfigDict | None = None,
        **student: Any,
    ) -> None:
        super().__init__(**student)
        self.compute = Compute(**(compute or {}))
        self.head_adapter = build_head_adapter(self.bbox_head)
        self.methods: list[Method] = []
        self.teacher: Teacher | None = None
        self.loss_shares = LossShareMeter()
        if teacher is not None and distillation is not None:
            self.methods = list(iter_methods(_DISTILLATION.validate_python(dict(distillation))))
            # The teacher's random first weights, soon replaced, must not move the student's: with
            # and without a teacher it begins the same.
            with torch.random.fork_rng(devices=[]):
                self._invite(teacher)
        if self.compute.activation_checkpointing:
            enable_activation_checkpointing(self.backbone)

    def _invite(self, teacher: ConfigDict) -> None:
        self.teacher = get_or_load_teacher(
            teacher["config"],
            checkpoint=Path(teacher["checkpoint"]),
            sha256=teacher.get("sha256"),
            precision=self.compute.teacher_precision or self.compute.precision,
        )
        columns = teacher.get("columns")
        check_compatible(self.bbox_head, self.teacher, columns=columns)
        # A buffer, to be on the device: an index that is a list is copied there at every use.
        self.register_buffer(
            "teacher_columns",
            None if columns is None else torch.tensor(columns),
            persistent=False,
        )
        adapters = build_feature_adapters(self.methods, self, self.teacher.detector)
        # Only where there are any: a student without them has mmdet's state dict, key by key.
        if len(adapters):
            self.adapters = adapters

    def forward_train(
        self,
        img: Tensor,
        img_metas: list[dict[str, Any]],
        gt_bboxes: list[Tensor],
        gt_labels: list[Tensor],
        gt_bboxes_ignore: list[Tensor] | None = None,
    ) -> Losses:
        """Losses by term and level; images (B, 3, H, W), boxes (M, 4) in pixels per image."""
        images = img
        if self.compute.channels_last:
            images = img.contiguous(memory_format=torch.channels_last)
        features, outputs = forward_detector(
            images, self, head_adapter=self.head_adapter, precision=self.compute.precision
        )
        losses: Losses = self.bbox_head.loss(
            *outputs, gt_bboxes, gt_labels, img_metas, gt_bboxes_ignore=gt_bboxes_ignore
        )
        # Not kept between two steps: students that take turns would hold those of all of them.
        targets, self.bbox_head.targets = self.bbox_head.targets, None
        if self.teacher is None:
            return losses
        seen = self.teacher.forward(images, batch=img)
        student = DetectorOutputs(self.head_adapter, features, outputs)
        taught = self._taught(student, seen, targets=targets, boxes=gt_bboxes)
        self.loss_shares.measure(losses, taught, outputs=outputs, features=features)
        return losses | taught

    def _taught(
        self,
        student: DetectorOutputs,
        teacher: DetectorOutputs,
        *,
        targets: Any,
        boxes: list[Tensor],
    ) -> Losses:
        scene = DistillationBatch(
            student=student,
            teacher=teacher,
            assignment=self.head_adapter.read_assignment(targets),
            boxes=boxes,
            teacher_columns=self.teacher_columns,
        )
        adapters = getattr(self, "adapters", torch.nn.ModuleDict())
        losses: Losses = {}
        for lesson in self.methods:
            losses |= compute_terms(lesson, scene, adapters)
        return losses

    def _parse_losses(self, losses: Losses) -> tuple[Tensor, dict[str, float]]:
        """mmdet's: the sum of all losses, and each term's mean over levels and processes.

        Equal to mmdet's, with one wait for the device and one exchange instead of one a term.
        """
        terms = {name: _mean(value) for name, value in losses.items()}
        loss = sum(value for name, value in terms.items() if "loss" in name)
        terms["loss"] = loss
        values = distributed.all_reduce_mean(
            torch.stack([value.detach() for value in terms.values()])
        )
        return loss, dict(zip(terms, values, strict=True))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if self.teacher is not None:
            self.teacher.move(fn)
        self.head_adapter.move(fn)
        return super()._apply(fn, recurse)


def _mean(value: Tensor | list[Tensor]) -> Any:
    return sum(of_level.mean() for of_level in value) if isinstance(value, list) else value.mean()


def check_compatible(student_head: Any, teacher: Teacher, *, columns: list[int] | None) -> None:
    """`TeacherMismatch` if positions or classes of the two do not correspond."""
    theirs = teacher.head_adapter
    if columns is None and student_head.num_classes != theirs.head.num_classes:
        raise TeacherMismatch(
            f"The teacher knows {theirs.head.num_classes} classes and the student "
            f"{student_head.num_classes}; use a teacher trained on the same classes, or match them "
            "by name with teacher_classes: by_name."
        )
    if columns is not None and -1 in columns:
        raise TeacherMismatch(
            f"The teacher does not know {columns.count(-1)} of the student's classes by name."
        )
    if not (student_head.use_sigmoid_cls and theirs.head.use_sigmoid_cls):
        raise TeacherMismatch("Both heads must score every class by itself, with a sigmoid.")
    ours = build_head_adapter(student_head)
    if ours.strides != theirs.strides:
        raise TeacherMismatch(
            f"The student predicts at strides {ours.strides} and the teacher at {theirs.strides}; "
            "use a teacher with the same feature levels."
        )
