"""The evaluate job, run by the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.metric_keys import Metric
from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode, RunFile
from tests.support.training.digits import write_digits
from tests.support.training.jobs import (
    load_digits_teacher,
    make_evaluation_spec,
    read_spool,
    run_job,
)
from tests.support.workers.average_precision import compute_parts
from workers.analysis.matches import load_matches


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=4, val=6)


def test_a_detector_is_measured_and_timed(digits: Path, tmp_path: Path) -> None:
    code = run_job(make_evaluation_spec(digits), tmp_path / "run")

    assert code == ExitCode.SUCCEEDED
    report = json.loads((tmp_path / "run" / RunFile.EVALUATION).read_text())
    assert 0.2 < report["coco"]["bbox_mAP"] < report["coco"]["bbox_AR_100"]
    assert report["images"] == 6
    assert report["speed"]["device"] == "cpu"
    assert report["speed"]["threads"] == 1
    assert report["speed"]["single_images"]["images"] == 4
    spool = read_spool(tmp_path / "run")
    assert spool[-1]["best_map"] == pytest.approx(report["coco"]["bbox_mAP"])
    (values,) = [record["values"] for record in spool if record["kind"] == "metrics"]
    assert values[Metric.MAP] == pytest.approx(report["coco"]["bbox_mAP"])
    assert values[Metric.LATENCY_P50_MS] <= values[Metric.LATENCY_P90_MS]
    parts = compute_parts(load_matches(tmp_path / "run" / RunFile.MATCHES))
    assert parts["bbox_mAP"] == pytest.approx(report["coco"]["bbox_mAP"], abs=1e-12)
    artifacts = {record["path"] for record in spool if record["kind"] == "artifact"}
    assert {RunFile.EVALUATION, RunFile.CURVES, RunFile.CURVES_PICTURE} <= artifacts
    assert all((tmp_path / "run" / path).is_file() for path in artifacts)


def test_training_images_and_a_limit_of_detections_can_be_chosen(
    digits: Path, tmp_path: Path
) -> None:
    changes = {"split": "train", "images": 3, "max_detections": 2}
    data = make_evaluation_spec(digits)["data"] | changes

    code = run_job(make_evaluation_spec(digits, data=data, timing=None), tmp_path / "run")

    assert code == ExitCode.SUCCEEDED
    report = json.loads((tmp_path / "run" / RunFile.EVALUATION).read_text())
    assert (report["images"], report["max_detections"]) == (3, 2)
    matches = load_matches(tmp_path / "run" / RunFile.MATCHES)
    assert np.bincount(matches.image_D).tolist() == [2, 2, 2]
    assert report["speed"]["single_images"] is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sha256": "0" * 64}, FailureReason.MODEL_MISMATCH),
        ({"checkpoint": "/nowhere.pth"}, FailureReason.MODEL_MISMATCH),
        ({"classes": ["one", "two"]}, FailureReason.INVALID_SPEC),
        ({"detector": {"backbone": {"depth": 18}}}, FailureReason.MODEL_MISMATCH),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    digits: Path, tmp_path: Path, changes: dict[str, Any], reason: FailureReason
) -> None:
    code = run_job(
        make_evaluation_spec(digits, model=load_digits_teacher() | changes), tmp_path / "run"
    )

    assert code == ExitCode.REFUSED
    assert read_spool(tmp_path / "run")[-1]["reason"] == reason
