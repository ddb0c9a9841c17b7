"""One batch as teacher and student see it: what every method of distillation works on."""

from dataclasses import dataclass

from torch import Tensor

from workers.distillation.head_adapters import Assignment, HeadAdapter, Outputs

Features = tuple[Tensor, ...]
"""What the pyramid gives, (B, D, H, W) by level."""


@dataclass(frozen=True)
class DetectorOutputs:
    """What one detector made of the batch."""

    head_adapter: HeadAdapter
    features: Features
    outputs: Outputs


@dataclass(frozen=True)
class DistillationBatch:
    """Both sides, the labels, and how the classes of the two correspond."""

    student: DetectorOutputs
    teacher: DetectorOutputs
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
        return self.student.head_adapter.class_logits(self.student.outputs, level)

    def teacher_logits(self, level: int) -> Tensor:
        """(N, C), the student's classes in the student's order."""
        return self.select_student_classes(
            self.teacher.head_adapter.class_logits(self.teacher.outputs, level)
        )

    def select_student_classes(self, teacher_logits_NC: Tensor) -> Tensor:
        """The columns of the student's classes."""
        if self.teacher_columns is None:
            return teacher_logits_NC
        return teacher_logits_NC[:, self.teacher_columns]

    def decode_boxes(self, side: DetectorOutputs, level: int) -> Tensor:
        """(N, 4), in strides."""
        return side.head_adapter.decode_boxes(side.outputs, level)
