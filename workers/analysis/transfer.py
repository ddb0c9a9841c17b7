"""Gap between student and teacher by class, size and IoU, by kind of error, and by image."""

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from configs.protocol.report import ErrorKind, MissedImage, MissedObject, TeacherStudent, Transfer
from workers.analysis.average_precision import average_precision, mean_over_classes, rank_detections
from workers.analysis.error_kinds import count_errors, object_scores
from workers.analysis.matches import AREAS, IOUS, Matches, check_same_images

MAX_IMAGES = 24


def compute_transfer(run_id: str, student: Matches, teacher: Matches) -> Transfer:
    """Compare a student with its teacher; `ValueError` if they were measured on other images."""
    check_same_images(student, teacher)
    ap_2ATC = np.stack([_average_precision(teacher), _average_precision(student)])
    mean_2AT = mean_over_classes(ap_2ATC)
    errors = count_errors(teacher), count_errors(student)
    kinds: tuple[ErrorKind, ...] = get_args(ErrorKind)
    return Transfer(
        run=run_id,
        by_class={
            name: _teacher_student(ap_2ATC[:, 0, :, column].mean(axis=1))
            for column, name in enumerate(student.class_names)
        },
        by_size={
            size: _teacher_student(mean_2AT[:, AREAS.index(size)].mean(axis=1))
            for size in ("s", "m", "l")
        },
        by_iou={
            f"{iou:.2f}": _teacher_student(mean_2AT[:, 0, position])
            for position, iou in enumerate(IOUS)
        },
        errors={
            kind: TeacherStudent(teacher=errors[0][kind], student=errors[1][kind]) for kind in kinds
        },
        images=tuple(_missed_images(student, teacher)),
    )


def _average_precision(matches: Matches) -> NDArray[Any]:
    once = np.ones((1, len(matches.files)), dtype=np.int32)
    ap_ATC: NDArray[Any] = average_precision(rank_detections(matches), once)[0]
    return ap_ATC


def _teacher_student(values_2: Any) -> TeacherStudent:
    teacher, student = (None if np.isnan(value) else float(value) for value in values_2)
    return TeacherStudent(teacher=teacher, student=student)


def _missed_images(student: Matches, teacher: Matches) -> list[MissedImage]:
    """Images with the most missed objects first, ties in the order of the images."""
    score_G = object_scores(teacher)
    missed = np.flatnonzero(~np.isnan(score_G) & np.isnan(object_scores(student)))
    images, counts = np.unique(teacher.image_G[missed], return_counts=True)
    selected = images[np.argsort(-counts, kind="stable")][:MAX_IMAGES]
    return [
        MissedImage(
            file=teacher.files[image],
            objects=tuple(
                _missed_objects(teacher, score_G, missed[teacher.image_G[missed] == image])
            ),
        )
        for image in selected
    ]


def _missed_objects(
    teacher: Matches, score_G: NDArray[Any], indices: NDArray[Any]
) -> list[MissedObject]:
    """Missed objects in descending order of the teacher's score."""
    return [
        MissedObject(
            class_name=teacher.class_names[teacher.class_G[index]],
            box=tuple(teacher.box_G4[index].tolist()),
            teacher_score=float(score_G[index]),
        )
        for index in indices[np.argsort(-score_G[indices], kind="stable")]
    ]
