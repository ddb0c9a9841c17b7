"""COCO's twelve metrics, and the precision-recall curves."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from tests.support.training.coco_detections import perturb_ground_truth
from workers.evaluation.coco import build_curves_document, compute_metrics
from workers.evaluation.pr_curves import draw_pr_curves

MMDET_MAX_DETECTIONS = [100, 300, 1000]


def test_average_precision_is_the_one_that_mmdet_says(dataset: Any) -> None:
    detections = perturb_ground_truth(dataset, shift=2.0)
    with contextlib.redirect_stdout(io.StringIO()):
        boxes = dataset.coco.loadRes(dataset._det2json(detections))
        coco_eval = COCOeval(dataset.coco, boxes, "bbox")
        coco_eval.params.maxDets = MMDET_MAX_DETECTIONS
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()

    metrics = compute_metrics(detections, dataset)

    existing = [value for value in coco_eval.stats[:6].tolist() if value >= 0]
    assert list(metrics.by_metric.values()) == existing
    for column, name in enumerate(dataset.CLASSES):
        precision = coco_eval.eval["precision"][:, :, column, 0, -1]
        expected = precision.mean() if precision.mean() >= 0 else None
        assert metrics.ap_by_class[name] == pytest.approx(expected)


def test_recall_grows_with_the_detections_that_count(dataset: object) -> None:
    metrics = compute_metrics(perturb_ground_truth(dataset, shift=0.0), dataset).recall_by_metric

    assert metrics["bbox_AR_1"] < metrics["bbox_AR_10"] <= metrics["bbox_AR_100"]
    assert metrics["bbox_AR_100"] == pytest.approx(1.0)


def test_the_area_under_a_curve_is_its_average_precision(dataset: object) -> None:
    measures = compute_metrics(perturb_ground_truth(dataset, shift=2.0), dataset)

    for name, curve in measures.curves.items():
        if measures.ap_by_class[name] is not None:
            assert float(curve.mean.mean()) == pytest.approx(measures.ap_by_class[name])
    assert float(measures.overall.at_50.mean()) == pytest.approx(measures.by_metric["bbox_mAP_50"])


def test_curves_are_json_without_numbers_that_are_none(dataset: object) -> None:
    document = build_curves_document(
        compute_metrics(perturb_ground_truth(dataset, shift=1.0), dataset)
    )

    assert document["recall"][0] == 0.0
    assert document["recall"][-1] == 1.0
    assert set(document["all classes"]) == {"0.50", "0.75", "0.50:0.95"}
    assert all(len(row) == 101 for row in document["all classes"].values())


def test_finding_nothing_is_zero_and_can_be_drawn(dataset: object) -> None:
    no_detections = [[np.zeros((0, 5), dtype=np.float32)] * 10] * 6

    measures = compute_metrics(no_detections, dataset)

    assert set(measures.by_metric.values()) == {0.0}
    assert draw_pr_curves(measures).width > 1000
