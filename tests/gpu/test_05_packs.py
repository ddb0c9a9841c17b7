"""Members of a pack that do not fit into the GPU's memory leave it, and the others finish."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from configs.protocol.failure import FailureReason
from tests.support.gpu.measurement import RecordFigure, release_memory
from tests.support.gpu.pack_process import train_with_too_little_memory
from tests.support.training.digits import write_digits
from tests.support.training.runs import STUDENT, make_spec, read_records

ROOT = Path(__file__).parents[2]
MEMBERS = ("a", "b", "c")
MIB = 2**20

LARGE_STUDENT = {
    "backbone": {"depth": 50, "pretrained": None},
    "neck": {"channels": 256},
    "head": {"convs": 1, "channels": 256},
}
"""It needs about 320 MiB between two steps of AdamW. On small images that is far more than what
cuDNN saves with slower kernels, so that not all members can fit."""


ALLOCATOR = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""The allocator setting of runs: free memory can be used for any size."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=16, val=4)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that is deleted, for checkpoints of a pack of large students take gigabytes."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.gpu
def test_members_without_memory_fail_and_the_others_finish(
    digits: Path, scratch: Path, record_figure: RecordFigure
) -> None:
    members = make_pack(digits, student=LARGE_STUDENT, num_gpus=1)
    (scratch / "members.json").write_text(json.dumps(members))
    release_memory()

    command = [sys.executable, "-m", "tests.support.gpu.pack_process", str(scratch)]
    subprocess.run(command, cwd=ROOT, env=os.environ | ALLOCATOR, timeout=200, check=True)

    for name, size in json.loads((scratch / "memory.json").read_text()).items():
        record_figure(name, size / MIB, "MiB")
    ends = read_outcomes(scratch / "limited")
    record_figure("ends", ", ".join(ends.values()), "")
    assert set(read_outcomes(scratch / "together").values()) == {"succeeded"}
    assert_some_ran_out_of_memory(ends.values())


def test_a_pack_with_enough_memory_trains_to_its_end(digits: Path, tmp_path: Path) -> None:
    members = make_pack(digits, student=STUDENT, num_gpus=0)
    del members["c"]

    memory = train_with_too_little_memory(tmp_path, members, device=torch.device("cpu"))

    assert memory.limit == 0
    for folder in ("together", "limited"):
        assert read_outcomes(tmp_path / folder) == dict.fromkeys(members, "succeeded")


@pytest.mark.parametrize(
    "ends",
    [
        ("succeeded", "succeeded", "succeeded"),
        ("pack_out_of_memory", "pack_out_of_memory", "pack_out_of_memory"),
        ("pack_out_of_memory", "pack_out_of_memory", "cuda_out_of_memory"),
        ("succeeded", "pack_out_of_memory", "bug"),
    ],
    ids=["nobody left", "nobody finished", "one gave up for good", "another reason"],
)
def test_other_ends_of_such_a_pack_are_refused(ends: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError):
        assert_some_ran_out_of_memory(ends)


def make_pack(
    digits: Path, *, student: Mapping[str, Any], num_gpus: int
) -> dict[str, dict[str, Any]]:
    """Make specs of members that differ only in their weight decay."""
    schedule = make_spec(digits)["schedule"] | {"epochs": 1}
    optimizers = [{"kind": "adamw", "lr": 1e-3, "weight_decay": 0.01 * n} for n in (1, 2, 3)]
    resources = {"num_gpus": num_gpus}
    return {
        name: make_spec(
            digits,
            student=student,
            schedule=schedule | {"optimizer": optimizer},
            resources=resources,
        )
        for name, optimizer in zip(MEMBERS, optimizers, strict=True)
    }


def read_outcomes(folder: Path) -> dict[str, str]:
    """Read "succeeded" or the failure reason of each member."""
    last = {run_dir.name: read_records(run_dir)[-1] for run_dir in sorted(folder.iterdir())}
    return {name: record.get("reason") or record["result"] for name, record in last.items()}


def assert_some_ran_out_of_memory(ends: Iterable[str]) -> None:
    """Assert that some succeeded, and that all others can be retried separately."""
    outcomes = sorted(ends)
    assert set(outcomes) == {"succeeded", FailureReason.PACK_OUT_OF_MEMORY}, outcomes
