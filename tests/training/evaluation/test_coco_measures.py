"""COCO's numbers in all their parts, and the curves they come from."""

import numpy as np
import pytest

from tests.support.training.coco_detections import detections_near_the_truth
from workers.evaluation.coco import build_curves_document, compute_detailed_metrics, compute_metrics
from workers.evaluation.pr_curves import draw_pr_curves


def test_average_precision_is_the_one_that_training_says(dataset: object) -> None:
    detections = detections_near_the_truth(dataset, shift=2.0)

    measures, scores = (
        compute_detailed_metrics(detections, dataset),
        compute_metrics(detections, dataset),
    )

    for name, value in scores.by_metric.items():
        assert measures.by_metric[name] == pytest.approx(value)
    assert measures.ap_by_class == pytest.approx(scores.ap_by_class)


def test_recall_grows_with_the_detections_that_count(dataset: object) -> None:
    found = compute_detailed_metrics(
        detections_near_the_truth(dataset, shift=0.0), dataset
    ).by_metric

    assert found["bbox_AR_1"] < found["bbox_AR_10"] <= found["bbox_AR_100"]
    assert found["bbox_AR_100"] == pytest.approx(1.0)


def test_the_area_under_a_curve_is_its_average_precision(dataset: object) -> None:
    measures = compute_detailed_metrics(detections_near_the_truth(dataset, shift=2.0), dataset)

    for name, curve in measures.curves.items():
        if measures.ap_by_class[name] != -1.0:
            assert float(curve.mean.mean()) == pytest.approx(measures.ap_by_class[name])
    assert float(measures.overall.at_50.mean()) == pytest.approx(measures.by_metric["bbox_mAP_50"])


def test_curves_are_json_without_numbers_that_are_none(dataset: object) -> None:
    document = build_curves_document(
        compute_detailed_metrics(detections_near_the_truth(dataset, shift=1.0), dataset)
    )

    assert document["recall"][0] == 0.0
    assert document["recall"][-1] == 1.0
    assert set(document["all classes"]) == {"0.50", "0.75", "0.50:0.95"}
    assert all(len(row) == 101 for row in document["all classes"].values())


def test_finding_nothing_is_zero_and_can_be_drawn(dataset: object) -> None:
    nothing = [[np.zeros((0, 5), dtype=np.float32)] * 10] * 6

    measures = compute_detailed_metrics(nothing, dataset)

    assert set(measures.by_metric.values()) == {0.0}
    assert draw_pr_curves(measures).width > 1000
