"""Transfer on hand-made detections: objects that only the teacher detects, and kinds of errors."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.workers.detection_scenes import SceneObject, to_mmdet_detections, write_dataset
from workers.analysis.error_kinds import count_errors
from workers.analysis.matches import Matches, match_detections
from workers.analysis.transfer import MAX_IMAGES, compute_transfer

BOX = (10.0, 10.0, 50.0, 50.0)
HALF_OFF = (30.0, 10.0, 70.0, 50.0)
FAR = (200.0, 200.0, 240.0, 240.0)
CROWD = (300.0, 300.0, 380.0, 380.0)
TRUTH = (SceneObject(0, "cat", BOX), SceneObject(1, "dog", BOX), SceneObject(2, "cat", BOX))

Detection = tuple[int, str, tuple[float, float, float, float], float]


def make_matches(
    tmp_path: Path,
    *detections: Detection,
    ground_truth: tuple[SceneObject, ...] = TRUTH,
    images: int = 4,
) -> Matches:
    dataset: Any = write_dataset(tmp_path / "made.json", ground_truth, images=images)
    return match_detections(to_mmdet_detections(detections, images=images), dataset)


@pytest.mark.parametrize(
    ("detections", "errors"),
    [
        ([], {"missed": 1}),
        ([("cat", BOX, 0.9)], {}),
        ([("cat", BOX, 0.2)], {"missed": 1}),
        ([("dog", BOX, 0.9)], {"classification": 1}),
        ([("cat", HALF_OFF, 0.9)], {"localization": 1}),
        ([("cat", BOX, 0.9), ("cat", BOX, 0.8)], {"duplicate": 1}),
        ([("cat", BOX, 0.9), ("dog", FAR, 0.8)], {"background": 1}),
        ([("dog", HALF_OFF, 0.9)], {"background": 1, "missed": 1}),
        ([("cat", BOX, 0.9), ("cat", HALF_OFF, 0.4), ("dog", BOX, 0.4), ("owl", FAR, 0.1)],
         {"localization": 1, "classification": 1}),
        ([("cat", BOX, 0.9), ("cat", CROWD, 0.9)], {}),
    ],
    ids=[
        "missed", "correct", "low score", "class", "location", "duplicate", "background", "both",
        "all", "crowd",
    ],
)  # fmt: skip
def test_errors_are_counted_by_kind(
    tmp_path: Path, detections: list[Any], errors: dict[str, int]
) -> None:
    ground_truth = (SceneObject(0, "cat", BOX), SceneObject(0, "cat", CROWD, crowd=True))

    counts = count_errors(
        make_matches(
            tmp_path,
            *[(0, *detection) for detection in detections],
            ground_truth=ground_truth,
            images=1,
        )
    )

    assert {kind: count for kind, count in counts.items() if count} == errors


def test_transfer_has_the_numbers_of_teacher_and_student(tmp_path: Path) -> None:
    teacher = make_matches(
        tmp_path, *[(scene_object.image, scene_object.name, BOX, 0.9) for scene_object in TRUTH]
    )
    student = make_matches(tmp_path, (0, "cat", BOX, 0.8), (1, "cat", BOX, 0.7))

    transfer = compute_transfer("r0123456789ab", student, teacher)

    assert transfer.by_class["dog"].model_dump() == pytest.approx({"teacher": 1.0, "student": 0.0})
    assert transfer.by_class["owl"].model_dump() == {"teacher": None, "student": None}
    assert transfer.by_class["cat"].student == pytest.approx(51 / 101)
    assert transfer.by_size["m"].teacher == pytest.approx(1.0)
    assert transfer.by_size["l"].teacher is None
    assert list(transfer.by_iou) == [f"{0.5 + step * 0.05:.2f}" for step in range(10)]
    assert transfer.errors["classification"].model_dump() == {"teacher": 0, "student": 1}
    assert transfer.errors["missed"].model_dump() == {"teacher": 0, "student": 1}


def test_objects_that_only_the_teacher_detects_are_missed(tmp_path: Path) -> None:
    ground_truth = (*TRUTH, SceneObject(2, "owl", FAR), SceneObject(3, "owl", FAR))
    teacher = make_matches(
        tmp_path,
        (0, "cat", BOX, 0.9),
        (1, "dog", BOX, 0.9),
        (2, "cat", BOX, 0.6),
        (2, "owl", FAR, 0.8),
        (3, "owl", FAR, 0.2),
        ground_truth=ground_truth,
    )
    student = make_matches(
        tmp_path, (0, "cat", BOX, 0.4), (1, "dog", BOX, 0.1), ground_truth=ground_truth
    )

    images = compute_transfer("r0123456789ab", student, teacher).images

    assert [image.file for image in images] == ["2.png", "1.png"]
    assert [(missed.class_name, missed.box) for missed in images[0].objects] == [
        ("owl", FAR),
        ("cat", BOX),
    ]
    assert images[0].objects[0].teacher_score == pytest.approx(0.8)


def test_the_number_of_images_is_limited(tmp_path: Path) -> None:
    count = MAX_IMAGES + 6
    ground_truth = tuple(SceneObject(image, "cat", BOX) for image in range(count))
    teacher = make_matches(
        tmp_path,
        *[(image, "cat", BOX, 0.9) for image in range(count)],
        ground_truth=ground_truth,
        images=count,
    )
    student = make_matches(tmp_path, ground_truth=ground_truth, images=count)

    assert len(compute_transfer("r0123456789ab", student, teacher).images) == MAX_IMAGES


def test_other_images_are_refused(tmp_path: Path) -> None:
    teacher = make_matches(tmp_path, images=4)
    student = make_matches(tmp_path, images=5)

    with pytest.raises(ValueError, match="same images"):
        compute_transfer("r0123456789ab", student, teacher)
