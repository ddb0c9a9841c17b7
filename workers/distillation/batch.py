"""One batch as teacher and student see it: what every method of distillation works on."""

from dataclasses import dataclass

from torch import Tensor

from workers.distillation.head_adapters import Assignment, HeadView, Outputs

Features = tuple[Tensor, ...]
"""What the pyramid gives, (B, D, H, W) by level."""


@dataclass(frozen=True)
class Side:
    """What one detector made of the batch."""

    view: HeadView
    features: Features
    outputs: Outputs


@dataclass(frozen=True)
class Scene:
    """Both sides, the labels, and how the classes of the two correspond."""

    student: Side
    teacher: Side
    assignment: Assignment
    boxes: list[Tensor]
    """True boxes of each image, (M, 4), in pixels."""

    teacher_columns: Tensor | None = None
    """The student's classes among the teacher's, (C,), int64; none: the same, in the same order."""

    @property
    def num_levels(self) -> int:
        """Feature levels."""
        return len(self.student.features)

    def student_logits(self, level: int) -> Tensor:
        """(N, C)."""
        return self.student.view.class_logits(self.student.outputs, level)

    def teacher_logits(self, level: int) -> Tensor:
        """(N, C), the student's classes in the student's order."""
        return self.matched(self.teacher.view.class_logits(self.teacher.outputs, level))

    def matched(self, teacher_logits_NC: Tensor) -> Tensor:
        """The columns of the student's classes."""
        if self.teacher_columns is None:
            return teacher_logits_NC
        return teacher_logits_NC[:, self.teacher_columns]

    def boxes_of(self, side: Side, level: int) -> Tensor:
        """(N, 4), in strides."""
        return side.view.boxes_at_positions(side.outputs, level)
