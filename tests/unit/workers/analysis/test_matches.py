"""Matched detections, and their file of plain arrays."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.protocol.names import RunFile
from tests.support.workers.detection_scenes import (
    SceneObject,
    random_detections,
    random_objects,
    to_mmdet_detections,
    write_dataset,
)
from workers.analysis.matches import (
    IOUS,
    Matches,
    load_matches,
    match_detections,
    save_matches,
    write_matches,
)
from workers.evaluation.coco import compute_metrics

BOX = (10.0, 10.0, 50.0, 50.0)
OFF = (14.0, 10.0, 54.0, 50.0)
CROWD = (200.0, 200.0, 380.0, 380.0)


def build_matches(tmp_path: Path) -> Matches:
    scene_objects = random_objects(12)
    dataset = write_dataset(tmp_path / "made.json", scene_objects, images=12)
    return match_detections(random_detections(scene_objects, images=12, noise=2.0), dataset)


def test_each_detection_is_right_ignored_or_wrong(tmp_path: Path) -> None:
    ground_truth = [
        SceneObject(0, "cat", BOX),
        SceneObject(1, "dog", BOX),
        SceneObject(1, "dog", CROWD, crowd=True),
    ]
    dataset = write_dataset(tmp_path / "made.json", ground_truth, images=2)
    detections: Any = [(0, "cat", OFF, 0.5), (1, "dog", BOX, 0.9), (1, "dog", CROWD, 0.8)]

    matches = match_detections(to_mmdet_detections(detections, images=2), dataset)

    assert matches.files == ("0.png", "1.png")
    assert matches.class_D.tolist() == [0, 1, 1]
    assert matches.image_D.tolist() == [0, 1, 1]
    assert matches.object_D.tolist() == [0, 1, -1]
    iou = 36 / 44
    assert matches.right_DAT[0, 0].tolist() == [threshold <= iou for threshold in IOUS]
    assert matches.right_DAT[1, 0].all()
    assert not matches.right_DAT[1, 1].any()
    assert matches.ignored_DAT[1, 1].all()
    assert matches.ignored_DAT[2].all()
    assert matches.box_D4[0] == pytest.approx(OFF)
    assert matches.objects_ICA[:, :, 0].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert matches.objects_ICA[0, 0].tolist() == [1, 0, 1, 0]


def test_as_many_detections_count_as_in_the_metrics(tmp_path: Path) -> None:
    boxes = [(x, y, x + 10.0, y + 10.0) for x in range(0, 375, 25) for y in range(0, 250, 25)]
    dataset = write_dataset(
        tmp_path / "crowded.json", [SceneObject(0, "cat", box) for box in boxes], images=1
    )
    detections = to_mmdet_detections([(0, "cat", box, 0.5) for box in boxes], images=1)

    for limit, count in ((1000, 150), (120, 120), (100, 100)):
        metrics = compute_metrics(detections, dataset, max_detections=limit)
        write_matches(tmp_path, dataset, student=metrics, teacher=metrics)
        for file in (RunFile.MATCHES, RunFile.TEACHER_MATCHES):
            matches = load_matches(tmp_path / file)
            assert matches.right_DAT[:, 0, 0].sum() == len(matches.image_D) == count


def test_saved_matches_are_loaded_unchanged(tmp_path: Path) -> None:
    matches = build_matches(tmp_path)

    save_matches(matches, tmp_path / "matches.npz")
    loaded = load_matches(tmp_path / "matches.npz")

    assert loaded.files == matches.files
    assert loaded.class_names == matches.class_names
    for field in fields(Matches):
        actual, expected = getattr(loaded, field.name), getattr(matches, field.name)
        assert np.array_equal(actual, expected), field.name
        assert np.asarray(actual).dtype == np.asarray(expected).dtype


def test_the_file_needs_no_pickle(tmp_path: Path) -> None:
    save_matches(build_matches(tmp_path), tmp_path / "matches.npz")

    with np.load(tmp_path / "matches.npz", allow_pickle=False) as arrays:
        kinds = {arrays[name].dtype.kind for name in arrays.files}

    assert kinds <= set("biufU")


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "matches.npz"
    save_matches(build_matches(tmp_path), path)
    path.write_bytes(path.read_bytes()[:500])
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, image_D=np.zeros(3))

    for invalid in (path, foreign):
        with pytest.raises(ValueError, match="does not hold a run's matches"):
            load_matches(invalid)


def test_a_run_writes_matches_of_student_and_teacher(tmp_path: Path) -> None:
    scene_objects = random_objects(12)
    dataset = write_dataset(tmp_path / "made.json", scene_objects, images=12)
    student, teacher = (
        compute_metrics(random_detections(scene_objects, images=12, noise=noise), dataset)
        for noise in (4.0, 0.0)
    )

    write_matches(tmp_path, dataset, student=student, teacher=teacher)

    num_right = [load_matches(tmp_path / name).right_DAT.sum() for name in _FILES]
    assert num_right[0] < num_right[1]


_FILES = (RunFile.MATCHES, RunFile.TEACHER_MATCHES)


def test_without_a_teacher_there_is_one_file(tmp_path: Path) -> None:
    scene_objects = random_objects(3)
    dataset = write_dataset(tmp_path / "made.json", scene_objects, images=3)

    write_matches(
        tmp_path,
        dataset,
        student=compute_metrics(random_detections(scene_objects, images=3, noise=1.0), dataset),
    )

    assert [(tmp_path / name).exists() for name in _FILES] == [True, False]
