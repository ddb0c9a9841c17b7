"""Whether a teacher can teach a student, from what their architectures say alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from configs.spec.detector import Detector, GflHead
from configs.spec.distillation import (
    Bckd,
    CrossKd,
    Distillation,
    Ld,
    LogitKd,
    Method,
    NoDistillation,
    iter_methods,
)

_ATSS = "ATSS"
_ASSIGNER = {"gfl": _ATSS, "atss": _ATSS, "vfnet": _ATSS, "retina": "max-IoU", "fcos": "FCOS's own"}


@dataclass(frozen=True)
class Incompatibility:
    """Why a teacher cannot teach a student (error), or probably will not help it (warning)."""

    severity: Literal["error", "warning"]
    code: str
    message: str


def find_incompatibilities(
    student: Detector, teacher: Detector, distillation: Distillation
) -> tuple[Incompatibility, ...]:
    """Everything that stands between the two; strides are the same for all our detectors."""
    if isinstance(distillation, NoDistillation):
        return ()
    found = list(_of_images(student, teacher))
    for lesson in iter_methods(distillation):
        found += _of_lesson(lesson, student, teacher)
    found += _of_assigners(student, teacher)
    return tuple(dict.fromkeys(found))


def _of_images(student: Detector, teacher: Detector) -> Iterator[Incompatibility]:
    if student.normalize != teacher.normalize:
        yield _error(
            "normalization_differs",
            f"The student sees pixels normalized as {student.normalize!r} and the teacher as "
            f"{teacher.normalize!r}; both look at the same images, so both must agree.",
        )


def _of_lesson(lesson: Method, student: Detector, teacher: Detector) -> Iterator[Incompatibility]:
    if isinstance(lesson, Bckd | LogitKd) and student.anchors != teacher.anchors:
        yield _error(
            "anchors_differ",
            f"The student has {student.anchors} predictions at each position and the teacher "
            f"{teacher.anchors}, so {lesson.method} cannot compare them one by one.",
        )
    if isinstance(lesson, Ld):
        yield from _of_edges(student, teacher)
    if isinstance(lesson, CrossKd):
        yield from _of_crossing(lesson, student, teacher)


def _of_edges(student: Detector, teacher: Detector) -> Iterator[Incompatibility]:
    ours, theirs = student.head, teacher.head
    if not isinstance(theirs, GflHead):
        yield _error(
            "no_edge_distributions",
            f"ld needs a teacher whose head predicts edges as distributions (gfl), not "
            f"{theirs.kind}.",
        )
    elif isinstance(ours, GflHead) and ours.reg_max != theirs.reg_max:
        yield _error(
            "reg_max_differs",
            f"ld compares edge distributions option by option: reg_max is {ours.reg_max} in the "
            f"student and {theirs.reg_max} in the teacher.",
        )


def _of_crossing(
    lesson: CrossKd, student: Detector, teacher: Detector
) -> Iterator[Incompatibility]:
    ours, theirs = student.head, teacher.head
    if (ours.kind, student.anchors) != (theirs.kind, teacher.anchors):
        yield _error(
            "heads_differ",
            f"crosskd sends the student's features through the teacher's head: both must be of one "
            f"kind, not {ours.kind} and {theirs.kind}.",
        )
    if lesson.after_convs > theirs.convs:
        yield _error(
            "after_convs_too_large",
            f"after_convs is {lesson.after_convs}, but the teacher's towers have "
            f"{theirs.convs} convolutions.",
        )


def _of_assigners(student: Detector, teacher: Detector) -> Iterator[Incompatibility]:
    ours, theirs = _ASSIGNER[student.head.kind], _ASSIGNER[teacher.head.kind]
    if ours != theirs:
        yield Incompatibility(
            "warning",
            "assigners_differ",
            f"The student learns by {ours} label assignment and the teacher by {theirs}; such "
            "pairs have been seen to end below the student alone (30.3 against 40.2 mAP for a "
            "RetinaNet teacher and a GFL student).",
        )


def _error(code: str, message: str) -> Incompatibility:
    return Incompatibility("error", code, message)
