"""Side by side or alone: every student becomes the same, bit for bit, whatever its neighbours do."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from configs.spec import ExitCode, PackMember, PackOrder, RunFile
from tests.digits import write_digits
from tests.training.runs import PATIENCE_S, STUDENT, WORKER, a_spec, records, said, train, weights
from workers.data.digits import CLASSES

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
    assert train(a_spec(digits, schedule=lesson, seed=9), folder / "run") == ExitCode.SUCCEEDED
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


def pack(folder: Path, members: dict[str, dict[str, Any]], *, attempt: int = 1) -> list[str]:
    """The command line of a pack; each member's folder has its name."""
    entries = []
    for number, (name, spec) in enumerate(members.items()):
        run_dir = folder / name
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / RunFile.SPEC).write_text(json.dumps(spec))
        run_id = f"r{number:012d}"
        entries.append(PackMember(run_id=run_id, attempt=attempt, run_dir=str(run_dir), name=name))
    order = PackOrder(id=f"pack-{os.urandom(4).hex()}", members=tuple(entries))
    file = folder / f"order-{attempt}.json"
    file.write_text(order.model_dump_json())
    return [str(WORKER), "train-pack", str(file)]


def train_pack(folder: Path, members: dict[str, dict[str, Any]], *, attempt: int = 1) -> int:
    return subprocess.run(
        pack(folder, members, attempt=attempt), timeout=PATIENCE_S, check=False
    ).returncode


def assert_equal_runs(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not ours[name].equal(theirs[name])]
    assert not different
    assert said(one) == said(other)


@pytest.fixture(scope="module")
def alone(digits: Path, teacher: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every member trained by itself."""
    folder = tmp_path_factory.mktemp("alone")
    for name, spec in specs(digits, teacher).items():
        assert train(spec, folder / name) == ExitCode.SUCCEEDED
    return folder


def test_each_member_becomes_what_it_becomes_alone_bit_for_bit(
    digits: Path, teacher: dict[str, Any], alone: Path, tmp_path: Path
) -> None:
    members = specs(digits, teacher)

    assert train_pack(tmp_path, members) == ExitCode.SUCCEEDED

    for name in members:
        assert_equal_runs(alone / name, tmp_path / name)
        assert records(tmp_path / name)[-1]["result"] == "succeeded"
        assert (tmp_path / name / RunFile.BEST).exists()
