"""docker/ray-node.sh with simulated commands: how Ray is started, and when it is not."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "ray-node.sh"


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with a `ray` that prints its arguments and a doctor that exits with DOCTOR."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in {
        "ray": 'echo "ray $*"; echo "devices=${CUDA_VISIBLE_DEVICES-unset}"',
        "tandem-worker": 'echo "devices of the doctor=${CUDA_VISIBLE_DEVICES-unset}"; exit $DOCTOR',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


def run_node(
    commands: Path, *arguments: str, doctor: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    path = f"{commands}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env={"PATH": path, "DOCTOR": str(doctor), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_healthy_worker_starts_and_lets_ray_count(commands: Path) -> None:
    node = run_node(commands, "worker")

    assert node.returncode == 0, node.stderr
    assert "ray start --address=ray-head:6379 --block" in node.stdout
    assert "--num-gpus" not in node.stdout
    assert "\ndevices=unset" in node.stdout


def test_a_worker_that_cannot_train_starts_no_ray_and_says_so(commands: Path) -> None:
    node = run_node(commands, "worker", doctor=1)

    assert node.returncode == 1
    assert "ray start" not in node.stdout
    assert "executes no runs" in node.stderr


def test_cores_and_gpus_of_a_worker_can_be_said(commands: Path) -> None:
    devices = "MIG-a,MIG-b,MIG-c"

    node = run_node(
        commands,
        "worker",
        RAY_WORKER_CPUS="16",
        RAY_WORKER_GPUS="3",
        CUDA_VISIBLE_DEVICES=devices,
    )

    assert "--num-cpus=16 --num-gpus=3 " in node.stdout
    assert f"\ndevices={devices}" in node.stdout


def test_empty_settings_are_as_if_they_were_not_there(commands: Path) -> None:
    node = run_node(commands, "worker", RAY_WORKER_CPUS="", RAY_WORKER_GPUS="")

    assert "--num" not in node.stdout


@pytest.mark.parametrize(
    ("num_gpus", "devices"), [("0", "0,1"), ("", "-1")], ids=["no GPUs", "no devices"]
)
def test_a_worker_without_gpus_hides_them_from_doctor_and_ray(
    commands: Path, num_gpus: str, devices: str
) -> None:
    node = run_node(commands, "worker", RAY_WORKER_GPUS=num_gpus, CUDA_VISIBLE_DEVICES=devices)

    assert node.stdout.startswith("devices of the doctor=\n")
    assert node.stdout.endswith("\ndevices=\n")


def test_an_unknown_kind_is_told_the_usage(commands: Path) -> None:
    node = run_node(commands, "other")

    assert node.returncode == 2
    assert "RAY_WORKER_GPUS" in node.stderr
    assert node.stderr.rstrip().endswith("until the problem is fixed.")
