"""Average precision equals that of pycocotools for any image weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.protocol.comparison import MAP_PARTS
from tests.support.workers.average_precision import compute_parts
from tests.support.workers.detection_scenes import (
    SceneObject,
    random_detections,
    random_objects,
    write_dataset,
)
from workers.analysis.average_precision import (
    average_precision,
    compute_parts_by_resample,
    rank_detections,
)
from workers.analysis.matches import match_detections
from workers.evaluation.coco import compute_metrics
from workers.evaluation.detection import Detections

IMAGES = 30
EXACT = 1e-12


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
@pytest.mark.parametrize("ties", [False, True], ids=["", "equal scores"])
def test_with_equal_weights_it_is_cocos(tmp_path: Path, noise: float, ties: bool) -> None:
    scene_objects = random_objects(IMAGES)
    dataset = write_dataset(tmp_path / "made.json", scene_objects, images=IMAGES)
    detections = random_detections(scene_objects, images=IMAGES, noise=noise, ties=ties)

    actual = compute_parts(match_detections(detections, dataset))

    expected = compute_metrics(detections, dataset)
    assert 0.1 < expected.mean_ap < 1.0
    assert actual == pytest.approx(expected.by_metric, abs=EXACT)


def test_by_class_it_is_cocos(tmp_path: Path) -> None:
    scene_objects = random_objects(IMAGES)
    dataset = write_dataset(tmp_path / "made.json", scene_objects, images=IMAGES)
    detections = random_detections(scene_objects, images=IMAGES, noise=3.0)

    ap_BATC = average_precision(
        rank_detections(match_detections(detections, dataset)), np.ones((1, IMAGES))
    )

    by_class = dict(zip(dataset.CLASSES, ap_BATC[0, 0].mean(axis=0).tolist(), strict=True))
    assert by_class == pytest.approx(compute_metrics(detections, dataset).ap_by_class, abs=EXACT)


def test_weight_two_equals_a_repeated_image(tmp_path: Path) -> None:
    scene_objects = random_objects(IMAGES)
    detections = random_detections(scene_objects, images=IMAGES, noise=3.0)
    dataset = write_dataset(tmp_path / "once.json", scene_objects, images=IMAGES)
    weights_BI = np.random.default_rng(1).multinomial(IMAGES, [1 / IMAGES] * IMAGES, size=20)

    values = compute_parts_by_resample(
        rank_detections(match_detections(detections, dataset)), weights_BI
    )

    for number, weights_I in enumerate(weights_BI):
        repeated, repeated_detections = _repeat(scene_objects, detections, weights_I)
        literal = write_dataset(tmp_path / f"{number}.json", repeated, images=IMAGES)
        expected = compute_metrics(repeated_detections, literal).by_metric
        actual = dict(zip(MAP_PARTS, values[number].tolist(), strict=True))
        assert actual == pytest.approx(expected, abs=EXACT)


def _repeat(
    scene_objects: list[SceneObject], detections: list[Detections], weights_I: Any
) -> tuple[list[SceneObject], list[Detections]]:
    image_indices = np.repeat(np.arange(len(weights_I)), weights_I).tolist()
    repeated = [
        SceneObject(index, scene_object.name, scene_object.box, crowd=scene_object.crowd)
        for index, image in enumerate(image_indices)
        for scene_object in scene_objects
        if scene_object.image == image
    ]
    return repeated, [detections[image] for image in image_indices]


def test_sizes_without_objects_are_nan(tmp_path: Path) -> None:
    scene_objects = [
        SceneObject(0, "cat", (10, 10, 20, 20)),
        SceneObject(1, "dog", (10, 10, 20, 20)),
    ]
    dataset = write_dataset(tmp_path / "made.json", scene_objects, images=2)
    detections = random_detections(scene_objects, images=2, noise=0.0)

    parts = compute_parts(match_detections(detections, dataset))

    assert np.isnan([parts["bbox_mAP_m"], parts["bbox_mAP_l"]]).all()
    assert parts["bbox_mAP_s"] == parts["bbox_mAP"]


def test_a_detector_that_finds_nothing_has_zero(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "made.json", random_objects(IMAGES), images=IMAGES)
    empty = random_detections([], images=0, noise=0.0) + [
        [np.zeros((0, 5), dtype=np.float32)] * 3 for _ in range(IMAGES)
    ]

    parts = compute_parts(match_detections(empty, dataset))

    assert parts == dict.fromkeys(MAP_PARTS, 0.0)
