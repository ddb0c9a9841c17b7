"""Training by the command line: complete, resumed, stopped and refused."""

import json
import math
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from configs.metric_keys import Metric
from configs.protocol.names import ExitCode, RunFile
from tests.support.training.detectors import make_detector, make_mmdet_gfl
from tests.support.training.digits import write_digits
from tests.support.training.runs import (
    STUDENT,
    TIMEOUT_S,
    load_training_weights,
    load_weights,
    make_spec,
    read_metric_values,
    read_records,
    start,
    train,
)
from tests.support.training.worker_processes import WORKER
from tests.support.workers.average_precision import compute_parts
from workers.analysis.matches import load_matches
from workers.checkpoints.files import load_checkpoint
from workers.data.digits import CLASSES
from workers.distillation.methods.release import digest_code


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=24, val=4)


def kill_after_epoch(spec: dict[str, Any], run_dir: Path, epoch: int) -> None:
    process = start(spec, run_dir)
    deadline_s = time.monotonic() + TIMEOUT_S
    while not any(r["kind"] == "progress" and r["epoch"] > epoch for r in read_records(run_dir)):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow  # test_exact_resume.py kills at any step
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    digits: Path, tmp_path: Path
) -> None:
    spec = make_spec(digits)
    assert train(spec, tmp_path / "whole") == ExitCode.SUCCEEDED

    kill_after_epoch(spec, tmp_path / "torn", 1)
    assert train(spec, tmp_path / "torn", attempt=2) == ExitCode.SUCCEEDED

    expected, actual = load_weights(tmp_path / "whole"), load_weights(tmp_path / "torn")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert read_metric_values(tmp_path / "whole") == read_metric_values(tmp_path / "torn")
    starts = [
        r["resumed_from_epoch"] for r in read_records(tmp_path / "torn") if r["kind"] == "started"
    ]
    assert starts[-1] >= 1


def test_a_teacher_teaches_and_its_student_is_a_plain_gfl_checkpoint(
    digits: Path, tmp_path: Path
) -> None:
    schedule = make_spec(digits)["schedule"] | {"epochs": 1}
    assert train(make_spec(digits, schedule=schedule), tmp_path / "teacher") == ExitCode.SUCCEEDED
    teacher = {
        "checkpoint": str(tmp_path / "teacher" / RunFile.BEST),
        "detector": STUDENT,
        "classes": list(CLASSES),
    }
    taught = make_spec(
        digits, schedule=schedule, teacher=teacher, distillation={"method": "bckd"}, seed=1
    )

    assert train(taught, tmp_path / "student") == ExitCode.SUCCEEDED

    plain = make_mmdet_gfl(make_detector(), num_classes=10)
    plain.load_state_dict(
        load_checkpoint(tmp_path / "student" / RunFile.BEST)["state_dict"], strict=True
    )
    keys = {key for key, _ in read_metric_values(tmp_path / "student")}
    assert {
        Metric.LOSS_DISTILL_CLS,
        Metric.LOSS_DISTILL_LOC,
        Metric.TEACHER_MAP,
        Metric.MAP,
    } <= keys
    assert (tmp_path / "student" / "pictures" / "overview.png").exists()
    values = read_metric_values(tmp_path / "student")
    for file, metric in (
        (RunFile.MATCHES, Metric.MAP),
        (RunFile.TEACHER_MATCHES, Metric.TEACHER_MAP),
    ):
        mean_ap = compute_parts(load_matches(tmp_path / "student" / file))["bbox_mAP"]
        assert mean_ap == pytest.approx(max(v for (key, _), v in values.items() if key == metric))
    evaluating = [
        r
        for r in read_records(tmp_path / "student")
        if r["kind"] == "progress" and r["phase"] == "evaluating"
    ]
    assert [(r["step"], r["eta_s"]) for r in evaluating] == [(3, 0.0)]
    logged = {r["path"] for r in read_records(tmp_path / "student") if r["kind"] == "artifact"}
    assert RunFile.MATCHES not in logged
    environment = json.loads((tmp_path / "student" / RunFile.ENVIRONMENT).read_text())
    assert (environment["device"], environment["gpus"], environment["cuda"]) == ("cpu", [], None)
    assert environment["numerics"]["cudnn_deterministic"]  # as the device was prepared
    assert environment["methods"] == {
        "bckd": {"version": "1", "digest": digest_code("workers.distillation")}
    }


def test_a_teacher_with_other_classes_ends_the_attempt_with_its_reason(
    digits: Path, tmp_path: Path
) -> None:
    classes = ["zero", "one"]
    plain = make_mmdet_gfl(make_detector(), num_classes=2)
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "two.pth")
    teacher = {"checkpoint": str(tmp_path / "two.pth"), "detector": STUDENT, "classes": classes}
    spec = make_spec(digits, teacher=teacher, distillation={"method": "bckd"})

    code = train(spec, tmp_path / "run")

    assert code == ExitCode.REFUSED
    assert read_records(tmp_path / "run")[-1]["reason"] == "teacher_mismatch"


def test_an_exploding_run_ends_at_the_step_where_it_explodes(digits: Path, tmp_path: Path) -> None:
    schedule = {"epochs": 3, "optimizer": {"kind": "sgd", "lr": 10.0}}

    code = train(make_spec(digits, schedule=schedule), tmp_path / "run")

    last = read_records(tmp_path / "run")[-1]
    assert code == ExitCode.REFUSED
    assert last["reason"] == "nan_loss"
    assert "At step" in last["message"]


def test_sigterm_is_a_preemption_that_may_be_tried_again(digits: Path, tmp_path: Path) -> None:
    spec = make_spec(digits, schedule=make_spec(digits)["schedule"] | {"epochs": 100})
    process = start(spec, tmp_path / "run")
    while not any(r["kind"] == "progress" for r in read_records(tmp_path / "run")):
        time.sleep(0.05)

    process.terminate()

    assert process.wait(timeout=TIMEOUT_S) == ExitCode.INTERRUPTED
    assert read_records(tmp_path / "run")[-1]["reason"] == "preempted"


def test_a_changed_dataset_is_refused(digits: Path, tmp_path: Path) -> None:
    data = make_spec(digits)["data"] | {"dataset": {"root": str(digits), "digest": "0" * 64}}

    assert train(make_spec(digits, data=data), tmp_path / "run") == ExitCode.REFUSED
    assert read_records(tmp_path / "run")[-1]["reason"] == "dataset_error"


def test_a_spec_with_a_typing_error_is_refused_by_its_field(digits: Path, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(make_spec(digits, sede=3)))

    answer = subprocess.run(
        [str(WORKER), "train", "--spec", str(file), "--run-dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == ExitCode.REFUSED
    assert "sede" in answer.stderr


def test_backbone_weights_that_cannot_be_downloaded_are_named(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    backbone = {"depth": 18, "pretrained": "imagenet"}

    code = train(make_spec(digits, student=STUDENT | {"backbone": backbone}), tmp_path / "run")

    last = read_records(tmp_path / "run")[-1]
    assert code == ExitCode.REFUSED
    assert last["reason"] == "invalid_spec"
    assert "student.backbone.pretrained=null" in last["message"]


def test_the_averaged_student_is_the_one_that_is_evaluated_and_stored(
    digits: Path, tmp_path: Path
) -> None:
    schedule = make_spec(digits)["schedule"] | {"epochs": 1, "ema": {"decay": 0.5}}

    assert train(make_spec(digits, schedule=schedule), tmp_path / "run") == ExitCode.SUCCEEDED

    best = load_checkpoint(tmp_path / "run" / RunFile.BEST)["state_dict"]
    last, trained = load_weights(tmp_path / "run"), load_training_weights(tmp_path / "run")
    assert best.keys() == last.keys() == trained.keys()
    assert all(tensor.equal(last[name]) for name, tensor in best.items())
    names = [name for name, tensor in best.items() if not tensor.equal(trained[name])]
    assert {"bbox_head.gfl_cls.weight", "backbone.bn1.running_mean"} <= set(names)
    decays = [v for (key, _), v in read_metric_values(tmp_path / "run").items() if "ema" in key]
    assert decays == [pytest.approx(0.5 * (1 - math.exp(-3 / 2000)))]
