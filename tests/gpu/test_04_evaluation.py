"""An evaluation on the GPU finds what one on the CPU finds."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.protocol.names import ExitCode, RunFile
from configs.spec.references import DatasetFiles, TeacherFiles
from tests.support.gpu.measurement import RecordFigure, use_device
from tests.support.training.digits import write_digits
from tests.support.training.jobs import load_digits_teacher, make_evaluation_spec, run_job
from workers.data.resolve import resolve_dataset
from workers.evaluation.coco import CocoMetrics, evaluate
from workers.evaluation.inference import ImageSelection, build_image_loader, load_model

AP_TOLERANCE = 2e-3
"""Two detections with nearly equal scores may be in either order."""

SCORE_TOLERANCE = 1e-3
MINIMUM_SCORE = 0.3
"""Minimum score of the detections that both devices must find."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=4, val=12)


@pytest.fixture(scope="module")
def reference(digits: Path) -> CocoMetrics:
    """Evaluation on the CPU."""
    with use_device("cpu") as cpu:
        return evaluate_teacher(digits, device=cpu)


def test_scores_and_detections_are_those_of_the_cpu(
    digits: Path, reference: CocoMetrics, device: torch.device, record_figure: RecordFigure
) -> None:
    start_s = time.perf_counter()

    scores = evaluate_teacher(digits, device=device)

    record_figure("seconds", time.perf_counter() - start_s, "s")
    record_figure("mAP", scores.mean_ap, f"(CPU: {reference.mean_ap:.4f})")
    assert_equal_scores(scores, reference)
    assert reference.mean_ap > 0.2


def test_detections_elsewhere_are_refused(reference: CocoMetrics) -> None:
    detections = [[boxes[:, [1, 0, 3, 2, 4]] for boxes in image] for image in reference.detections]
    mirrored = replace(reference, detections=detections)

    with pytest.raises(AssertionError):
        assert_equal_scores(mirrored, reference)


@pytest.mark.gpu
def test_the_command_evaluates_on_the_gpu(
    digits: Path, tmp_path: Path, record_figure: RecordFigure
) -> None:
    spec = make_evaluation_spec(digits, resources={"num_gpus": 1}, timing={"images": 12})

    assert run_job(spec, tmp_path / "run") == ExitCode.SUCCEEDED

    report = json.loads((tmp_path / "run" / RunFile.EVALUATION).read_text())
    assert report["speed"]["device"].startswith("cuda")
    record_figure("images/s", report["speed"]["images_per_s"], "")


def evaluate_teacher(digits: Path, *, device: torch.device) -> CocoMetrics:
    """Evaluate the included digits teacher."""
    files = TeacherFiles.model_validate(load_digits_teacher())
    images = ImageSelection(dataset=resolve_dataset(DatasetFiles(root=str(digits))), size=(96, 96))
    loader = build_image_loader(files.detector, images, batch_size=4)
    model = load_model(files, device=device).module
    return evaluate(model, loader, device=device, max_detections=100)


def assert_equal_scores(scores: CocoMetrics, reference: CocoMetrics) -> None:
    """Compare COCO metrics and all confident detections."""
    for name, value in reference.by_metric.items():
        assert scores.by_metric[name] == pytest.approx(value, abs=AP_TOLERANCE), name
    for image, expected in zip(scores.detections, reference.detections, strict=True):
        for boxes, expected_boxes in zip(image, expected, strict=True):
            assert_has_boxes(boxes, expected_boxes)
            assert_has_boxes(expected_boxes, boxes)


def assert_has_boxes(boxes: np.ndarray, expected: np.ndarray) -> None:
    """Check that each box (N, 5) with a score above 0.3 exists, to 1 % of its size."""
    for box in expected[expected[:, 4] > MINIMUM_SCORE]:
        edge = max(box[2] - box[0], box[3] - box[1])
        assert len(boxes), "no detection of this class"
        distances = np.abs(boxes[:, :4] - box[:4]).max(axis=1)
        nearest = distances.argmin()
        assert distances[nearest] <= 0.01 * edge
        assert boxes[nearest, 4] == pytest.approx(box[4], abs=SCORE_TOLERANCE)
