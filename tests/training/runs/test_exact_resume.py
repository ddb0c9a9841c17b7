"""A run that is killed at any step resumes bit for bit, in one process or several."""

import logging
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.protocol.names import ExitCode, RunFile
from service.stack.ports import choose_free_port
from tests.support.training.digits import write_digits, write_unlabelled
from tests.support.training.resumed_runs import (
    EPOCHS,
    STEPS_PER_EPOCH,
    assert_equal_runs,
    kill_after_step,
    make_exact_spec,
)
from tests.support.training.runs import (
    STUDENT,
    TIMEOUT_S,
    make_spec,
    read_metric_values,
    read_records,
    start,
    start_without_fork,
    train,
)
from workers.data.digits import CLASSES

DISTILLATION: dict[str, Any] = {
    "method": "bckd",
    "cls_weight": {"warmup_epochs": 1.5, "shape": "cosine"},
    "loc_weight": {"share": 0.3, "every_steps": 2},
    "extra": {"pkd": {"weight": {"value": 1.0, "stop_epoch": 2}}, "mgd": {}},
}

log = logging.getLogger(__name__)


EMA = {"decay": 0.9, "warmup_steps": 4}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=8 * STEPS_PER_EPOCH, val=5)


def make_teacher_changes(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    lesson = spec["schedule"] | {"epochs": 1}
    assert train(spec | {"schedule": lesson}, folder / "teacher") == ExitCode.SUCCEEDED
    teacher = {
        "checkpoint": str(folder / "teacher" / RunFile.BEST),
        "detector": STUDENT,
        "classes": list(CLASSES),
    }
    return spec | {
        "student": STUDENT | {"inherit": ["neck", "head"]},
        "teacher": teacher,
        "distillation": DISTILLATION,
        "loss_shares_every_steps": 4,
    }


def start_group(spec: dict[str, Any], run_dir: Path, *, count: int, attempt: int) -> list[Any]:
    file = run_dir.parent / f"{run_dir.name}.yaml"
    file.write_text(yaml.safe_dump(spec))
    group = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(choose_free_port()),
        "WORLD_SIZE": str(count),
    }
    arguments = [
        "-m",
        "tests.support.training.group_process",
        str(file),
        str(run_dir),
        str(attempt),
    ]
    return [
        subprocess.Popen([sys.executable, *arguments], env=os.environ | group | {"RANK": str(rank)})
        for rank in range(count)
    ]


def train_in_group(spec: dict[str, Any], run_dir: Path, *, count: int, attempt: int = 1) -> None:
    processes = start_group(spec, run_dir, count=count, attempt=attempt)
    assert [process.wait(TIMEOUT_S) for process in processes] == [ExitCode.SUCCEEDED] * count


def choose_step_inside_epoch() -> int:
    return random.randrange(EPOCHS) * STEPS_PER_EPOCH + random.randrange(1, STEPS_PER_EPOCH)


@pytest.mark.parametrize(
    ("num_workers", "num_kills"),
    [(2, 1), *(pytest.param(count, 2, marks=pytest.mark.slow) for count in (0, 2))],
)
def test_a_trainer_killed_at_a_random_step_goes_on_bit_for_bit(
    digits: Path, tmp_path: Path, num_workers: int, num_kills: int
) -> None:
    steps = sorted({choose_step_inside_epoch() for _ in range(num_kills)})
    log.warning("killed after steps %s", steps)
    data = make_spec(digits)["data"] | {"num_workers": num_workers, "flip": 0.5}
    spec = make_teacher_changes(make_exact_spec(digits, data=data, ema=EMA), tmp_path)
    spec["data"] |= {"mosaic": {"stop_epochs": 1}, "mixup": {"stop_epochs": 0}}
    if num_workers:
        photos = write_unlabelled(tmp_path, images=6)
        spec["data"]["unlabelled"] = {"dataset": {"root": str(photos)}, "images_per_batch": 4}
    else:  # it needs boxes
        extra = {**DISTILLATION["extra"], "fgd": {}}
        spec["distillation"] = DISTILLATION | {"extra": extra}
    assert train(spec, tmp_path / "whole") == ExitCode.SUCCEEDED

    # The first as a new process: with another hash seed, and with imports in their own order.
    ways = (start_without_fork, start)
    for attempt, (step, begin) in enumerate(zip(steps, ways, strict=False), start=1):
        process = begin(spec, tmp_path / "torn", attempt=attempt)
        kill_after_step([process], tmp_path / "torn", step)
    assert train(spec, tmp_path / "torn", attempt=len(steps) + 1) == ExitCode.SUCCEEDED

    assert_equal_runs(tmp_path / "whole", tmp_path / "torn")
    notes = [r["text"] for r in read_records(tmp_path / "torn") if r["kind"] == "note"]
    assert [text for text in notes if "from the teacher" in text] == [
        "Initial weights from the teacher: 32 of 32 tensors of neck and head."
    ]
    assert (tmp_path / "torn" / RunFile.INHERITED_WEIGHTS).exists()


@pytest.mark.slow  # tests/training/models/test_tood.py holds that a resumed head knows the epoch
@pytest.mark.parametrize("step", [2, STEPS_PER_EPOCH + 2])
@pytest.mark.parametrize("head", [{"kind": "tood", "initial_epochs": 1}, {"kind": "yolox"}])
def test_a_head_that_assigns_labels_by_its_predictions_goes_on_bit_for_bit(
    digits: Path, tmp_path: Path, head: dict[str, Any], step: int
) -> None:
    student = STUDENT | {"head": head | {"convs": 1, "channels": 32}}
    spec = make_exact_spec(digits, student=student)
    assert train(spec, tmp_path / "uninterrupted") == ExitCode.SUCCEEDED

    kill_after_step([start(spec, tmp_path / "resumed")], tmp_path / "resumed", step)
    assert train(spec, tmp_path / "resumed", attempt=2) == ExitCode.SUCCEEDED

    assert_equal_runs(tmp_path / "uninterrupted", tmp_path / "resumed")


@pytest.mark.slow  # one process is tried too; two of them are killed by test_ray_group.py
def test_two_processes_killed_at_a_random_step_go_on_bit_for_bit(
    digits: Path, tmp_path: Path
) -> None:
    step = choose_step_inside_epoch()
    log.warning("killed after step %s", step)
    spec = make_exact_spec(digits, ema=EMA, resources={"processes": 2})
    train_in_group(spec, tmp_path / "whole", count=2)

    kill_after_step(
        start_group(spec, tmp_path / "torn", count=2, attempt=1), tmp_path / "torn", step
    )
    train_in_group(spec, tmp_path / "torn", count=2, attempt=2)

    assert_equal_runs(tmp_path / "whole", tmp_path / "torn")


@pytest.mark.slow  # tests/unit/workers/data/test_loaders.py holds that their batches are the same
def test_fewer_processes_go_on_with_the_same_batches(digits: Path, tmp_path: Path) -> None:
    spec = make_exact_spec(digits, resources={"processes": 2, "min_processes": 1})
    processes = start_group(spec, tmp_path / "run", count=2, attempt=1)
    kill_after_step(processes, tmp_path / "run", 7)

    assert train(spec, tmp_path / "run", attempt=2) == ExitCode.SUCCEEDED

    train_steps = {
        step for key, step in read_metric_values(tmp_path / "run") if key == "train/loss"
    }
    assert max(train_steps) == EPOCHS * STEPS_PER_EPOCH


def test_sigterm_writes_a_checkpoint_of_the_very_step(digits: Path, tmp_path: Path) -> None:
    checkpoints = {"every_minutes": None}
    schedule = make_spec(digits)["schedule"] | {"epochs": 100}
    spec = make_exact_spec(digits, checkpoints=checkpoints, schedule=schedule)
    process = start(spec, tmp_path / "run")
    while not any(r["kind"] == "progress" and r["step"] for r in read_records(tmp_path / "run")):
        time.sleep(0.01)

    process.terminate()
    assert process.wait(TIMEOUT_S) == ExitCode.INTERRUPTED

    process = start(spec, tmp_path / "run", attempt=2)
    while not any(
        r["kind"] == "started" and r["attempt"] == 2 for r in read_records(tmp_path / "run")
    ):
        time.sleep(0.01)
    process.kill()
    process.wait()
    notes = [r["text"] for r in read_records(tmp_path / "run") if r["kind"] == "note"]
    assert any("Resumed after epoch" in text for text in notes)


def test_another_spec_does_not_go_on_from_this_runs_checkpoint(
    digits: Path, tmp_path: Path
) -> None:
    schedule = make_spec(digits)["schedule"] | {"epochs": 1}
    assert train(make_spec(digits, schedule=schedule), tmp_path / "run") == ExitCode.SUCCEEDED

    code = train(make_spec(digits, schedule=schedule, seed=5), tmp_path / "run", attempt=2)

    last = read_records(tmp_path / "run")[-1]
    assert code == ExitCode.REFUSED
    assert last["reason"] == "invalid_spec"
    assert "spec.seed: 0, now 5" in last["message"]


@pytest.mark.slow  # tests/unit/workers/checkpoints/test_store.py tries every kind of damage
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    digits: Path, tmp_path: Path
) -> None:
    spec = make_exact_spec(digits)
    assert train(spec, tmp_path / "whole") == ExitCode.SUCCEEDED
    kill_after_step([start(spec, tmp_path / "torn")], tmp_path / "torn", 8)
    folder = tmp_path / "torn" / RunFile.CHECKPOINTS
    newest = sorted(folder.glob("step-*.json"))[-1].with_suffix(".pth")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)

    assert train(spec, tmp_path / "torn", attempt=2) == ExitCode.SUCCEEDED

    assert_equal_runs(tmp_path / "whole", tmp_path / "torn")
    notes = [r["text"] for r in read_records(tmp_path / "torn") if r["kind"] == "note"]
    assert any(f"{newest.name} is damaged" in text for text in notes)
