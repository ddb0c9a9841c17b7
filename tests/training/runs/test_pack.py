"""Side by side or alone: every student becomes the same, bit for bit, whatever others do."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.names import ExitCode, RunFile
from tests.support.training.digits import write_digits
from tests.support.training.packs import an_order, train_here
from tests.support.training.runs import PATIENCE_S, STUDENT, a_spec, records, said, weights
from tests.support.training.runs import train as train_by_command
from tests.support.training.worker_processes import start_worker
from workers.attempt.stop import Termination
from workers.data.digits import CLASSES
from workers.jobs.train import train
from workers.process import compat
from workers.telemetry.identity import AttemptIdentity

STEPS_IN_EPOCH = 5
EPOCHS = 3
WEIGHTS = {"a": (1.0, 4.0), "b": (0.25, 1.0), "c": (4.0, 0.0)}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=8 * STEPS_IN_EPOCH, val=5)


@pytest.fixture(scope="module")
def teacher(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("teacher")
    lesson = a_spec(digits)["schedule"] | {"epochs": 1}
    assert (
        train_by_command(a_spec(digits, schedule=lesson, seed=9), folder / "run")
        == ExitCode.SUCCEEDED
    )
    return {
        "checkpoint": str(folder / "run" / RunFile.BEST),
        "detector": STUDENT,
        "classes": list(CLASSES),
    }


def specs(digits: Path, teacher: dict[str, Any], **changes: Any) -> dict[str, dict[str, Any]]:
    """Three taught by other weights, and one alone."""
    data = a_spec(digits)["data"] | {"flip": 0.5}
    schedule = a_spec(digits)["schedule"] | {"epochs": EPOCHS}
    checkpoints = {"every_steps": 1, "every_minutes": None, "keep_last": 3}
    base = a_spec(digits, data=data, schedule=schedule, checkpoints=checkpoints) | changes
    taught = {
        name: base
        | {
            "teacher": teacher,
            "distillation": {"method": "bckd", "cls_weight": cls, "loc_weight": loc},
        }
        for name, (cls, loc) in WEIGHTS.items()
    }
    return taught | {"alone": base}


def start(folder: Path, members: dict[str, dict[str, Any]], *, attempt: int = 1) -> Any:
    order = an_order(folder, members, attempt=attempt)
    file = folder / f"order-{order.id}.json"
    file.write_text(order.model_dump_json())
    return start_worker("train-pack", str(file))


def kill_after_step(process: Any, run_dir: Path, step: int) -> None:
    manifest = run_dir / RunFile.CHECKPOINTS / f"step-{step:09d}.json"
    deadline_s = time.monotonic() + PATIENCE_S
    while not manifest.exists():
        assert process.poll() is None, "ended before it was killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def assert_equal_runs(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not ours[name].equal(theirs[name])]
    assert not different
    assert said(one) == said(other)


@pytest.fixture(scope="module")
def alone(digits: Path, teacher: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every member trained by itself, without packs."""
    folder = tmp_path_factory.mktemp("alone")
    compat.apply_patches()
    for name, spec in specs(digits, teacher).items():
        (folder / name).mkdir()
        code = train(
            parse_spec(spec),
            identity=AttemptIdentity(run_id=name),
            run_dir=folder / name,
            termination=Termination(),
        )
        assert code is ExitCode.SUCCEEDED
    return folder


def test_each_member_becomes_what_it_becomes_alone_bit_for_bit(
    digits: Path, teacher: dict[str, Any], alone: Path, tmp_path: Path
) -> None:
    members = specs(digits, teacher)

    assert train_here(tmp_path, members) is ExitCode.SUCCEEDED

    for name in members:
        assert_equal_runs(alone / name, tmp_path / name)
        assert records(tmp_path / name)[-1]["result"] == "succeeded"
        assert (tmp_path / name / RunFile.BEST).exists()


def test_a_member_whose_loss_is_no_number_fails_alone(
    digits: Path, teacher: dict[str, Any], alone: Path, tmp_path: Path
) -> None:
    members = specs(digits, teacher)
    wild = members["b"]["schedule"] | {"optimizer": {"kind": "sgd", "lr": 10.0}}
    members["b"] = members["b"] | {"schedule": wild | {"max_grad_norm": None}}

    assert train_here(tmp_path, members) is ExitCode.INTERRUPTED

    last = records(tmp_path / "b")[-1]
    assert (last["result"], last["reason"]) == ("failed", "nan_loss")
    assert json.loads((tmp_path / "b" / RunFile.NAN_BATCH).read_text())["images"]
    for name in ("a", "c", "alone"):
        assert_equal_runs(alone / name, tmp_path / name)


def test_a_member_that_cannot_begin_leaves_the_others_alone(
    digits: Path, teacher: dict[str, Any], alone: Path, tmp_path: Path
) -> None:
    members = specs(digits, teacher)
    members["a"] = members["a"] | {"teacher": teacher | {"sha256": "0" * 64}}

    assert train_here(tmp_path, members) is ExitCode.INTERRUPTED

    assert records(tmp_path / "a")[-1]["reason"] == "teacher_mismatch"
    assert_equal_runs(alone / "b", tmp_path / "b")


@pytest.mark.slow  # two packs and their survivors, half a minute
def test_survivors_of_two_packs_that_were_killed_go_on_as_one_pack(
    digits: Path, teacher: dict[str, Any], alone: Path, tmp_path: Path
) -> None:
    members = specs(digits, teacher)
    ahead = {name: members[name] for name in ("a", "b")}
    behind = {name: members[name] for name in ("c", "alone")}
    kill_after_step(start(tmp_path, ahead), tmp_path / "b", 2 * STEPS_IN_EPOCH + 2)
    kill_after_step(start(tmp_path, behind), tmp_path / "c", 2)

    code = start(tmp_path, {name: members[name] for name in ("a", "c")}, attempt=2).wait(PATIENCE_S)

    assert code == ExitCode.SUCCEEDED
    for name in ("a", "c"):
        assert_equal_runs(alone / name, tmp_path / name)
