"""Where a student is behind its teacher: by class, size and place, by kind of error, and in what
images."""

from typing import Any, get_args

import numpy as np

from configs.protocol.report import ErrorKind, MissedImage, MissedObject, TeacherStudent, Transfer
from workers.analysis.average_precision import average_precision, mean_over_classes, rank_detections
from workers.analysis.error_kinds import count_errors, object_scores
from workers.analysis.matches import AREAS, IOUS, Array, Matches, check_same_images

MAX_IMAGES = 24


def compute_transfer(run_id: str, student: Matches, teacher: Matches) -> Transfer:
    """A student beside its teacher; `ValueError` if they were measured on different images."""
    check_same_images(student, teacher)
    ap_2ATC = np.stack([_average_precision(teacher), _average_precision(student)])
    mean_2AT = mean_over_classes(ap_2ATC)
    errors = count_errors(teacher), count_errors(student)
    kinds: tuple[ErrorKind, ...] = get_args(ErrorKind)
    return Transfer(
        run=run_id,
        by_class={
            name: _pair(ap_2ATC[:, 0, :, column].mean(axis=1))
            for column, name in enumerate(student.class_names)
        },
        by_size={
            size: _pair(mean_2AT[:, AREAS.index(size)].mean(axis=1)) for size in ("s", "m", "l")
        },
        by_iou={f"{iou:.2f}": _pair(mean_2AT[:, 0, at]) for at, iou in enumerate(IOUS)},
        errors={
            kind: TeacherStudent(teacher=errors[0][kind], student=errors[1][kind]) for kind in kinds
        },
        images=tuple(_lost_images(student, teacher)),
    )


def _average_precision(matches: Matches) -> Array:
    once = np.ones((1, len(matches.files)), dtype=np.int32)
    ap_ATC: Array = average_precision(rank_detections(matches), once)[0]
    return ap_ATC


def _pair(values_2: Any) -> TeacherStudent:
    teacher, student = (None if np.isnan(value) else float(value) for value in values_2)
    return TeacherStudent(teacher=teacher, student=student)


def _lost_images(student: Matches, teacher: Matches) -> list[MissedImage]:
    """Those with the most lost objects first, then in the images' order."""
    score_G = object_scores(teacher)
    lost = np.flatnonzero(~np.isnan(score_G) & np.isnan(object_scores(student)))
    images, counts = np.unique(teacher.image_G[lost], return_counts=True)
    chosen = images[np.argsort(-counts, kind="stable")][:MAX_IMAGES]
    return [
        MissedImage(
            file=teacher.files[image],
            objects=tuple(_lost_objects(teacher, score_G, lost[teacher.image_G[lost] == image])),
        )
        for image in chosen
    ]


def _lost_objects(teacher: Matches, score_G: Array, places: Array) -> list[MissedObject]:
    """Those that the teacher is surest of first."""
    return [
        MissedObject(
            class_name=teacher.class_names[teacher.class_G[place]],
            box=tuple(teacher.box_G4[place].tolist()),
            teacher_score=float(score_G[place]),
        )
        for place in places[np.argsort(-score_G[places], kind="stable")]
    ]
