"""COCO metrics equal mmdet's, and an evaluation does not change the model."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from tests.support.training.coco_detections import perturb_ground_truth
from workers.data.digits import CLASSES
from workers.errors import DatasetError
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
    with_objects = [value for value in metrics.ap_by_class.values() if value is not None]
    assert with_objects == pytest.approx([1.0] * len(with_objects))


def test_a_detector_that_finds_nothing_scores_zero(dataset: Any) -> None:
    no_detections = [[np.zeros((0, 5), dtype=np.float32)] * len(CLASSES)] * len(dataset)

    assert compute_metrics(no_detections, dataset).by_metric["bbox_mAP_50"] == 0.0


@pytest.mark.parametrize("has_detections", [True, False])
def test_sizes_without_objects_have_no_value(dataset: Any, has_detections: bool) -> None:
    assert max(item["area"] for item in dataset.coco.dataset["annotations"]) < 96**2
    detections = perturb_ground_truth(dataset, shift=2.0)
    if not has_detections:
        detections = [[np.zeros((0, 5), dtype=np.float32)] * len(CLASSES)] * len(dataset)

    metrics = compute_metrics(detections, dataset)

    for values in (metrics.by_metric, metrics.recall_by_metric):
        assert not any(name.endswith("_l") for name in values)
        assert all(0 <= value <= 1 for value in values.values())


def test_images_with_crowds_only_have_no_metrics(
    dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    detections = perturb_ground_truth(dataset, shift=2.0)
    for annotation in dataset.coco.anns.values():
        monkeypatch.setitem(annotation, "iscrowd", 1)

    with pytest.raises(DatasetError, match="None of the 6 evaluated images"):
        compute_metrics(detections, dataset)
