"""Our COCO numbers are mmdet's, and an evaluation changes nothing."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from tests.support.training.coco_detections import detections_near_the_truth
from workers.data.digits import CLASSES
from workers.evaluation.coco import compute_metrics


def test_scores_equal_those_of_mmdet(dataset: Any) -> None:
    detections = detections_near_the_truth(dataset, shift=2.0)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = dataset.evaluate(detections, metric="bbox")

    ours = compute_metrics(detections, dataset).by_metric

    assert 0 < ours["bbox_mAP"] < 1
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], abs=1e-3)


def test_perfect_detections_score_one_in_every_class(dataset: Any) -> None:
    scores = compute_metrics(detections_near_the_truth(dataset, shift=0.0), dataset)

    assert scores.mean_ap == pytest.approx(1.0)
    known = [value for value in scores.ap_by_class.values() if value != -1.0]
    assert known == pytest.approx([1.0] * len(known))


def test_a_detector_that_finds_nothing_scores_zero(dataset: Any) -> None:
    nothing = [[np.zeros((0, 5), dtype=np.float32)] * len(CLASSES)] * len(dataset)

    assert compute_metrics(nothing, dataset).by_metric["bbox_mAP_50"] == 0.0
