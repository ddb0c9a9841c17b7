"""Members of a pack equal separate runs bit for bit, whatever the other members do."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.names import ExitCode, RunFile
from tests.support.training.digits import write_digits, write_unlabelled
from tests.support.training.packs import make_pack_job, train_in_process
from tests.support.training.runs import (
    STUDENT,
    TIMEOUT_S,
    load_weights,
    make_spec,
    read_metric_values,
    read_records,
)
from tests.support.training.runs import train as train_by_command
from tests.support.training.worker_processes import start_worker
from workers.attempt.stop import Termination
from workers.data.digits import CLASSES
from workers.jobs.train import train
from workers.process import compat
from workers.telemetry.identity import AttemptIdentity

STEPS_IN_EPOCH = 5
EPOCHS = 3
WEIGHTS: dict[str, tuple[Any, Any]] = {
    "a": ({"share": 0.2, "every_steps": 2}, {"warmup_epochs": 1, "stop_epoch": 2}),
    "b": (0.25, 1.0),
    "c": (4.0, 0.0),
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    write_unlabelled(folder, images=6)
    return write_digits(folder / "digits", train=8 * STEPS_IN_EPOCH, val=5)


@pytest.fixture(scope="module")
def teacher(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_teacher(digits, tmp_path_factory.mktemp("teacher"), STUDENT)


def train_teacher(digits: Path, folder: Path, detector: dict[str, Any]) -> dict[str, Any]:
    schedule = make_spec(digits)["schedule"] | {"epochs": 1}
    spec = make_spec(digits, student=detector, schedule=schedule, seed=9)
    assert train_by_command(spec, folder / "run") == ExitCode.SUCCEEDED
    return {
        "checkpoint": str(folder / "run" / RunFile.BEST),
        "detector": detector,
        "classes": list(CLASSES),
    }


def make_specs(digits: Path, teacher: dict[str, Any], **changes: Any) -> dict[str, dict[str, Any]]:
    """Three distilled runs with different loss weights, some of which move, and a baseline.

    The first two have methods with trained blocks, the second one images without labels, the third
    one the teacher's outputs of other images.
    """
    data = make_spec(digits)["data"] | {"flip": 0.5}
    schedule = make_spec(digits)["schedule"] | {"epochs": EPOCHS}
    checkpoints = {"every_steps": 1, "every_minutes": None, "keep_last": 3}
    base = make_spec(digits, data=data, schedule=schedule, checkpoints=checkpoints) | changes
    distilled = {
        name: base
        | {
            "teacher": teacher,
            "distillation": {"method": "bckd", "cls_weight": cls, "loc_weight": loc},
        }
        for name, (cls, loc) in WEIGHTS.items()
    }
    distilled["a"]["distillation"]["extra"] = {"fgd": {}}
    distilled["b"]["distillation"]["extra"] = {"mgd": {}}
    distilled["b"]["schedule"] = schedule | {"ema": {"decay": 0.9, "warmup_steps": 4}}
    distilled["c"]["student"] = STUDENT | {"inherit": ["neck", "head"]}
    distilled["c"]["control"] = "shuffled_teacher"
    photos = {"root": str(digits.parent / "photos")}
    unlabelled = {"dataset": photos, "images_per_batch": 4}
    distilled["b"]["data"] = base["data"] | {"unlabelled": unlabelled}
    return distilled | {"alone": base}


def start(folder: Path, members: dict[str, dict[str, Any]], *, attempt: int = 1) -> Any:
    job = make_pack_job(folder, members, attempt=attempt)
    file = folder / f"order-{job.id}.json"
    file.write_text(job.model_dump_json())
    return start_worker("train-pack", str(file))


def kill_after_step(process: Any, run_dir: Path, step: int) -> None:
    manifest = run_dir / RunFile.CHECKPOINTS / f"step-{step:09d}.json"
    deadline_s = time.monotonic() + TIMEOUT_S
    while not manifest.exists():
        assert process.poll() is None, "ended before it was killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def assert_equal_runs(first: Path, second: Path) -> None:
    expected, actual = load_weights(first), load_weights(second)
    assert expected.keys() == actual.keys()
    different = [name for name in expected if not expected[name].equal(actual[name])]
    assert not different
    assert read_metric_values(first) == read_metric_values(second)


@pytest.fixture(scope="module")
def separate_runs(
    digits: Path, teacher: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Every member trained as a separate run."""
    folder = tmp_path_factory.mktemp("alone")
    train_separately(folder, make_specs(digits, teacher))
    return folder


def train_separately(folder: Path, members: dict[str, dict[str, Any]]) -> None:
    compat.apply_patches()
    for name, spec in members.items():
        (folder / name).mkdir()
        code = train(
            parse_spec(spec),
            identity=AttemptIdentity(run_id=name),
            run_dir=folder / name,
            termination=Termination(),
        )
        assert code is ExitCode.SUCCEEDED


def test_each_member_equals_a_run_of_its_own_bit_for_bit(
    digits: Path, teacher: dict[str, Any], separate_runs: Path, tmp_path: Path
) -> None:
    members = make_specs(digits, teacher)

    assert train_in_process(tmp_path, members) is ExitCode.SUCCEEDED

    for name in members:
        assert_equal_runs(separate_runs / name, tmp_path / name)
        assert read_records(tmp_path / name)[-1]["result"] == "succeeded"
        assert (tmp_path / name / RunFile.BEST).exists()


def test_a_nan_loss_fails_one_member_only(
    digits: Path, teacher: dict[str, Any], separate_runs: Path, tmp_path: Path
) -> None:
    members = make_specs(digits, teacher)
    wild = members["b"]["schedule"] | {"optimizer": {"kind": "sgd", "lr": 10.0}}
    members["b"] = members["b"] | {"schedule": wild | {"max_grad_norm": None}}

    assert train_in_process(tmp_path, members) is ExitCode.INTERRUPTED

    last = read_records(tmp_path / "b")[-1]
    assert (last["result"], last["reason"]) == ("failed", "nan_loss")
    assert json.loads((tmp_path / "b" / RunFile.NAN_BATCH).read_text())["images"]
    for name in ("a", "c", "alone"):
        assert_equal_runs(separate_runs / name, tmp_path / name)


@pytest.mark.slow  # the member with a NaN above does not affect the others either
def test_a_member_that_cannot_start_does_not_affect_the_others(
    digits: Path, teacher: dict[str, Any], separate_runs: Path, tmp_path: Path
) -> None:
    members = make_specs(digits, teacher)
    members["a"] = members["a"] | {"teacher": teacher | {"sha256": "0" * 64}}

    assert train_in_process(tmp_path, members) is ExitCode.INTERRUPTED

    assert read_records(tmp_path / "a")[-1]["reason"] == "teacher_mismatch"
    assert_equal_runs(separate_runs / "b", tmp_path / "b")


@pytest.mark.slow  # two packs and their survivors, half a minute
def test_survivors_of_two_killed_packs_resume_as_one_pack(
    digits: Path, teacher: dict[str, Any], separate_runs: Path, tmp_path: Path
) -> None:
    members = make_specs(digits, teacher)
    early = {name: members[name] for name in ("a", "b")}
    late = {name: members[name] for name in ("c", "alone")}
    kill_after_step(start(tmp_path, early), tmp_path / "b", 2 * STEPS_IN_EPOCH + 2)
    kill_after_step(start(tmp_path, late), tmp_path / "c", 2)

    code = start(tmp_path, {name: members[name] for name in ("a", "c")}, attempt=2).wait(TIMEOUT_S)

    assert code == ExitCode.SUCCEEDED
    for name in ("a", "c"):
        assert_equal_runs(separate_runs / name, tmp_path / name)


@pytest.mark.slow  # a teacher and five runs, a minute
def test_members_whose_heads_have_batch_norms_equal_runs_of_their_own(
    digits: Path, tmp_path: Path
) -> None:
    detector = STUDENT | {"head": {"kind": "yolox", "convs": 1, "channels": 32}}
    (tmp_path / "pack").mkdir()
    teacher = train_teacher(digits, tmp_path, detector)
    members = make_specs(digits, teacher, student=detector)
    members["c"]["student"] = detector | {"inherit": ["neck", "head"]}
    train_separately(tmp_path, members)

    assert train_in_process(tmp_path / "pack", members) is ExitCode.SUCCEEDED

    for name in members:
        assert_equal_runs(tmp_path / name, tmp_path / "pack" / name)
