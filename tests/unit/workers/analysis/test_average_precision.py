"""Our average precision is pycocotools', whatever an image counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.protocol.report import MAP_PARTS
from tests.support.workers.detection_scenes import (
    Thing,
    random_detections,
    random_things,
    write_dataset,
)
from workers.analysis.average_precision import (
    average_precision,
    compute_parts,
    compute_parts_by_resample,
    rank_detections,
)
from workers.analysis.matches import match_detections
from workers.evaluation.coco import Detections, compute_metrics

IMAGES = 30
EXACT = 1e-12


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
@pytest.mark.parametrize("ties", [False, True], ids=["", "equal scores"])
def test_with_every_image_once_it_is_cocos(tmp_path: Path, noise: float, ties: bool) -> None:
    things = random_things(IMAGES)
    dataset = write_dataset(tmp_path / "made.json", things, images=IMAGES)
    detections = random_detections(things, images=IMAGES, noise=noise, ties=ties)

    ours = compute_parts(match_detections(detections, dataset))

    theirs = compute_metrics(detections, dataset)
    assert 0.1 < theirs.mean_ap < 1.0
    assert ours == pytest.approx(theirs.by_metric, abs=EXACT)


def test_by_class_it_is_cocos(tmp_path: Path) -> None:
    things = random_things(IMAGES)
    dataset = write_dataset(tmp_path / "made.json", things, images=IMAGES)
    detections = random_detections(things, images=IMAGES, noise=3.0)

    ap_BATC = average_precision(
        rank_detections(match_detections(detections, dataset)), np.ones((1, IMAGES))
    )

    by_class = dict(zip(dataset.CLASSES, ap_BATC[0, 0].mean(axis=0).tolist(), strict=True))
    assert by_class == pytest.approx(compute_metrics(detections, dataset).ap_by_class, abs=EXACT)


def test_an_image_that_counts_twice_is_an_image_that_is_there_twice(tmp_path: Path) -> None:
    things = random_things(IMAGES)
    detections = random_detections(things, images=IMAGES, noise=3.0)
    dataset = write_dataset(tmp_path / "once.json", things, images=IMAGES)
    weights_BI = np.random.default_rng(1).multinomial(IMAGES, [1 / IMAGES] * IMAGES, size=20)

    values = compute_parts_by_resample(
        rank_detections(match_detections(detections, dataset)), weights_BI
    )

    for number, weights_I in enumerate(weights_BI):
        repeated, again = _repeated(things, detections, weights_I)
        literal = write_dataset(tmp_path / f"{number}.json", repeated, images=IMAGES)
        theirs = compute_metrics(again, literal).by_metric
        ours = dict(zip(MAP_PARTS, values[number].tolist(), strict=True))
        assert ours == pytest.approx(theirs, abs=EXACT)


def _repeated(
    things: list[Thing], detections: list[Detections], weights_I: Any
) -> tuple[list[Thing], list[Detections]]:
    drawn = np.repeat(np.arange(len(weights_I)), weights_I).tolist()
    repeated = [
        Thing(place, thing.name, thing.box, crowd=thing.crowd)
        for place, image in enumerate(drawn)
        for thing in things
        if thing.image == image
    ]
    return repeated, [detections[image] for image in drawn]


def test_sizes_without_objects_are_not_numbers(tmp_path: Path) -> None:
    things = [Thing(0, "cat", (10, 10, 20, 20)), Thing(1, "dog", (10, 10, 20, 20))]
    dataset = write_dataset(tmp_path / "made.json", things, images=2)
    detections = random_detections(things, images=2, noise=0.0)

    parts = compute_parts(match_detections(detections, dataset))

    assert np.isnan([parts["bbox_mAP_m"], parts["bbox_mAP_l"]]).all()
    assert parts["bbox_mAP_s"] == parts["bbox_mAP"]


def test_a_detector_that_finds_nothing_has_zero(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "made.json", random_things(IMAGES), images=IMAGES)
    nothing = random_detections([], images=0, noise=0.0) + [
        [np.zeros((0, 5), dtype=np.float32)] * 3 for _ in range(IMAGES)
    ]

    parts = compute_parts(match_detections(nothing, dataset))

    assert parts == dict.fromkeys(MAP_PARTS, 0.0)
