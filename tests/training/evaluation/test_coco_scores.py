"""COCO metrics equal mmdet's, and an evaluation does not change the model."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from tests.support.training.coco_detections import perturb_ground_truth
from workers.data.digits import CLASSES
from workers.evaluation.coco import compute_metrics


def test_scores_equal_those_of_mmdet(dataset: Any) -> None:
    detections = perturb_ground_truth(dataset, shift=2.0)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = dataset.evaluate(detections, metric="bbox")

    actual = compute_metrics(detections, dataset).by_metric

    assert 0 < actual["bbox_mAP"] < 1
    for name, value in actual.items():
        assert value == pytest.approx(expected[name], abs=1e-3)


def test_perfect_detections_score_one_in_every_class(dataset: Any) -> None:
    metrics = compute_metrics(perturb_ground_truth(dataset, shift=0.0), dataset)

    assert metrics.mean_ap == pytest.approx(1.0)
    with_objects = [value for value in metrics.ap_by_class.values() if value != -1.0]
    assert with_objects == pytest.approx([1.0] * len(with_objects))


def test_a_detector_that_finds_nothing_scores_zero(dataset: Any) -> None:
    no_detections = [[np.zeros((0, 5), dtype=np.float32)] * len(CLASSES)] * len(dataset)

    assert compute_metrics(no_detections, dataset).by_metric["bbox_mAP_50"] == 0.0
