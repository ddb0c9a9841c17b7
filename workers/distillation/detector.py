"""A GFL student with a teacher at its side; without the teacher it is mmdet's GFL, key by key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from mmcv import ConfigDict
from mmdet.models import DETECTORS
from mmdet.models.dense_heads import GFLHead
from mmdet.models.detectors import GFL
from torch import Tensor

from configs.spec import Bckd
from workers.distillation.head import TandemGFLHead
from workers.distillation.teacher import Teacher
from workers.errors import TeacherMismatch


@DETECTORS.register_module()
class TandemGFL(GFL):
    """The student: its own losses as they are, plus the method's.

    `teacher` holds `config` (an mmdet model), `checkpoint` and `sha256`; `distillation` holds the
    fields of `configs.spec.Bckd`. Raises `TeacherMismatch` if the two cannot be compared.
    """

    bbox_head: TandemGFLHead

    def __init__(self, *, teacher: ConfigDict, distillation: ConfigDict, **student: Any) -> None:
        super().__init__(**student)
        self.method = Bckd(**distillation)
        self.teacher = Teacher(
            teacher["config"], checkpoint=Path(teacher["checkpoint"]), sha256=teacher.get("sha256")
        )
        _refuse_mismatch(self.bbox_head, self.teacher.head)

    def forward_train(
        self,
        img: Tensor,
        img_metas: list[dict[str, Any]],
        gt_bboxes: list[Tensor],
        gt_labels: list[Tensor],
        gt_bboxes_ignore: list[Tensor] | None = None,
    ) -> dict[str, list[Tensor]]:
        """Losses by term and level; images (B, 3, H, W), boxes (M, 4) in pixels per image."""
        student = self.bbox_head(self.extract_feat(img))
        losses: dict[str, list[Tensor]] = self.bbox_head.loss(
            *student, gt_bboxes, gt_labels, img_metas, gt_bboxes_ignore=gt_bboxes_ignore
        )
        distillation_losses = self.bbox_head.distillation_losses(
            student, self.teacher.look(img), teacher_head=self.teacher.head, method=self.method
        )
        return losses | distillation_losses

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.teacher.move(fn)
        return super()._apply(fn, recurse)


def _refuse_mismatch(student_head: Any, teacher_head: Any) -> None:
    if not isinstance(teacher_head, GFLHead):
        raise TeacherMismatch(
            f"The teacher's head is a {type(teacher_head).__name__}, which does not predict edges "
            "as distributions like the student's; use a GFL teacher."
        )
    if student_head.num_classes != teacher_head.num_classes:
        raise TeacherMismatch(
            f"The teacher knows {teacher_head.num_classes} classes and the student "
            f"{student_head.num_classes}; use a teacher trained on the same classes."
        )
    ours, theirs = _places(student_head), _places(teacher_head)
    if ours != theirs:
        raise TeacherMismatch(
            f"The student predicts at {ours} and the teacher at {theirs}; use a teacher with the "
            "same feature levels."
        )


def _places(head: GFLHead) -> str:
    strides = ", ".join(str(stride) for stride, _ in head.prior_generator.strides)
    return f"strides {strides} (centre offset {head.prior_generator.center_offset})"
