"""Outputs of student and teacher on one batch: the input of every distillation method."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from workers.distillation.head_adapters.base import HeadAdapter, Outputs
from workers.distillation.head_adapters.label_assignment import Assignment

Features = tuple[Tensor, ...]
"""Feature maps of the pyramid, (B, D, H, W) by level."""


@dataclass(frozen=True)
class DetectorOutputs:
    """Features and head outputs of one detector on the batch."""

    head_adapter: HeadAdapter
    features: Features
    outputs: Outputs

    def shift_images(self) -> Self:
        """The outputs of the previous image in each image's position, and of the last in the first.

        Maps cover the padded batch, so positions correspond, though images differ in padding.
        """
        features = tuple(maps.roll(1, dims=0) for maps in self.features)
        outputs = tuple([maps.roll(1, dims=0) for maps in group] for group in self.outputs)
        return type(self)(self.head_adapter, features, outputs)


@dataclass(frozen=True)
class DistillationBatch:
    """Outputs of both detectors, the assigned labels, and the mapping between their classes."""

    student: DetectorOutputs
    teacher: DetectorOutputs
    assignment: Assignment
    boxes: list[Tensor]
    """Ground-truth boxes of each image, (M, 4), in pixels."""

    teacher_columns: Tensor | None = None
    """Index of each student class among the teacher's classes, (C,), int64.

    None if both have the same classes in the same order.
    """

    image_seeds: tuple[int, ...] = ()
    """A number for each image that follows from seed, epoch and image. What a method draws for an
    image follows from it alone: then it is the same in all packs, processes and micro-batches."""

    @property
    def num_levels(self) -> int:
        """Number of feature levels."""
        return len(self.student.features)

    def student_logits(self, level: int) -> Tensor:
        """Class logits of the student, (N, C)."""
        return self.student.head_adapter.class_logits(self.student.outputs, level)

    def teacher_logits(self, level: int) -> Tensor:
        """Class logits of the teacher for the student's classes, in the student's order, (N, C)."""
        return self.select_student_classes(
            self.teacher.head_adapter.class_logits(self.teacher.outputs, level)
        )

    def select_student_classes(self, teacher_logits_NC: Tensor) -> Tensor:
        """Reorder the teacher's class columns to the student's classes, (N, C)."""
        return select_classes(teacher_logits_NC, self.teacher_columns)

    def decode_boxes(self, side: DetectorOutputs, level: int) -> Tensor:
        """Boxes of one detector, (N, 4), in strides."""
        return side.head_adapter.decode_boxes(side.outputs, level)

    def decode_levels(self, side: DetectorOutputs, levels: Sequence[int]) -> Tensor:
        """Boxes of one detector at several levels, one after another, (N, 4), in strides."""
        return side.head_adapter.decode_levels(side.outputs, levels)


def select_classes(teacher_logits_NC: Tensor, columns: Tensor | None) -> Tensor:
    """The class columns of a `DistillationBatch`'s `teacher_columns`, in their order."""
    return teacher_logits_NC if columns is None else teacher_logits_NC[:, columns]
