"""COCO's twelve metrics, and the precision-recall curves."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from tests.support.training.coco_detections import perturb_ground_truth
from tests.support.workers.detection_scenes import (
    SceneObject,
    to_mmdet_detections,
    write_dataset,
)
from workers.evaluation.coco import build_curves_document, compute_metrics
from workers.evaluation.detection import Detections
from workers.evaluation.pr_curves import draw_pr_curves

MMDET_MAX_DETECTIONS = [100, 300, 1000]
BOXES = [(x, y, x + 10.0, y + 10.0) for x in range(0, 375, 25) for y in range(0, 250, 25)]
"""150 boxes that do not overlap."""


ROUNDING = 1e-12
"""The library in C++ adds in another order than pycocotools."""


def test_average_precision_is_the_one_that_mmdet_says(dataset: Any) -> None:
    detections = perturb_ground_truth(dataset, shift=2.0)
    coco_eval = run_pycocotools(detections, dataset, MMDET_MAX_DETECTIONS)

    metrics = compute_metrics(detections, dataset)

    existing = [value for value in coco_eval.stats[:6].tolist() if value >= 0]
    assert list(metrics.by_metric.values()) == pytest.approx(existing, abs=ROUNDING)
    for column, name in enumerate(dataset.CLASSES):
        precision = coco_eval.eval["precision"][:, :, column, 0, -1]
        expected = precision.mean() if precision.mean() >= 0 else None
        assert metrics.ap_by_class[name] == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 2.0, 6.0])
def test_all_twelve_numbers_are_those_of_pycocotools(dataset: Any, shift: float) -> None:
    detections = perturb_ground_truth(dataset, shift=shift)
    stats = run_pycocotools(detections, dataset, [1, 10, 100]).stats

    metrics = compute_metrics(detections, dataset)

    values = [*metrics.by_metric.values(), *metrics.recall_by_metric.values()]
    existing = [value for value in stats.tolist() if value >= 0]
    assert values == pytest.approx(existing, abs=ROUNDING)


def test_ap_counts_as_many_detections_as_the_limit_allows(tmp_path: Path) -> None:
    crowded = write_dataset(
        tmp_path / "crowded.json", [SceneObject(0, "cat", box) for box in BOXES], images=1
    )
    scored = [(0, "cat", box, 1.0 - index / 1000) for index, box in enumerate(BOXES)]
    detections = to_mmdet_detections(scored, images=1)

    metrics = {
        limit: compute_metrics(detections, crowded, max_detections=limit)
        for limit in (100, 120, 150, 300)
    }

    for limit, share in ((100, 67 / 101), (120, 81 / 101), (150, 1.0), (300, 1.0)):
        of_limit = metrics[limit]
        stats = run_pycocotools(detections, crowded, [1, 10, limit]).eval["precision"]
        expected = stats[:, :, 0, 0, -1].mean()
        assert expected == pytest.approx(share)
        precisions = [of_limit.by_metric[f"bbox_mAP{suffix}"] for suffix in ("", "_50", "_s")]
        assert [*precisions, of_limit.ap_by_class["cat"]] == pytest.approx(
            [expected] * 4, abs=ROUNDING
        )
        assert float(of_limit.overall.mean.mean()) == pytest.approx(expected)
        assert of_limit.recall_by_metric["bbox_AR_s"] == pytest.approx(min(limit, 150) / 150)
        assert of_limit.recall_by_class["cat"] == pytest.approx(100 / 150)
        recalls = [of_limit.recall_by_metric[f"bbox_AR_{count}"] for count in (1, 10, 100)]
        assert recalls == pytest.approx([1 / 150, 10 / 150, 100 / 150])


def run_pycocotools(detections: list[Detections], dataset: Any, limits: list[int]) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        boxes = dataset.coco.loadRes(dataset._det2json(detections))
        coco_eval = COCOeval(dataset.coco, boxes, "bbox")
        coco_eval.params.maxDets = limits
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


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
