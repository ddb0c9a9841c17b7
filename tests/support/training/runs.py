"""Training runs by the command line, and the results in their folders."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from configs.metric_keys import Metric
from configs.protocol.names import RunFile
from tests.support.training.worker_processes import (
    WORKER,
    Process,
    run_worker,
    start_new_process,
    start_worker,
)
from workers.checkpoints.files import load_checkpoint

TIMEOUT_S = 240
STUDENT = {
    "backbone": {"depth": 18, "width": 0.125},
    "neck": {"channels": 32},
    "head": {"convs": 1, "channels": 32, "reg_max": 8},
}
UNTIMED = (Metric.IMAGES_PER_S, Metric.INFERENCE_IMAGES_PER_S)


def make_spec(digits: Path, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "student": STUDENT,
        "data": {
            "dataset": {"root": str(digits)},
            "image_size": [96, 96],
            "batch_size": 8,
            "num_workers": 0,
        },
        "schedule": {
            "epochs": 3,
            "optimizer": {"kind": "adamw", "lr": 2e-3},
            "max_grad_norm": 10.0,
        },
        "evaluation": {"pictures": 1, "batch_size": 4},
    }
    return spec | changes


def write_command(spec: dict[str, Any], run_dir: Path, *, attempt: int = 1) -> list[str]:
    file = run_dir.parent / f"{run_dir.name}.yaml"
    file.write_text(yaml.safe_dump(spec))
    options = ("--spec", str(file), "--run-dir", str(run_dir), "--attempt", str(attempt))
    return [str(WORKER), "train", *options]


def train(spec: dict[str, Any], run_dir: Path, *, attempt: int = 1) -> int:
    _, *arguments = write_command(spec, run_dir, attempt=attempt)
    return run_worker(*arguments, timeout_s=TIMEOUT_S)


def start(spec: dict[str, Any], run_dir: Path, *options: str, attempt: int = 1) -> Process:
    """Start a trainer with additional options."""
    _, *arguments = write_command(spec, run_dir, attempt=attempt)
    return start_worker(*arguments, *options)


def start_without_fork(spec: dict[str, Any], run_dir: Path, *, attempt: int = 1) -> Process:
    """Start a trainer as a new process instead of a fork."""
    _, *arguments = write_command(spec, run_dir, attempt=attempt)
    return start_new_process(*arguments)


def read_records(run_dir: Path) -> list[dict[str, Any]]:
    spool = run_dir / RunFile.SPOOL
    if not spool.exists():
        return []
    complete_lines, _, _ = spool.read_text().rpartition("\n")
    return [json.loads(line) for line in complete_lines.splitlines()]


def has_epoch(run_dir: Path, epoch: int) -> bool:
    """Whether the run has reported progress in this epoch, or in a later one."""
    return any(r["kind"] == "progress" and r["epoch"] >= epoch for r in read_records(run_dir))


def read_metric_values(run_dir: Path) -> dict[tuple[str, int], float]:
    """Every metric value by key and step; fails if a value is reported twice."""
    values: dict[tuple[str, int], float] = {}
    for record in read_records(run_dir):
        for key, value in record.get("values", {}).items():
            assert (key, record["step"]) not in values, "reported twice"
            if key not in UNTIMED:
                values[key, record["step"]] = value
    return values


def load_training_weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """The weights that the last step left; without an EMA those of `load_weights`."""
    checkpoint = load_checkpoint(run_dir / RunFile.LAST)
    state: dict[str, torch.Tensor] = checkpoint.get("training_state_dict", checkpoint["state_dict"])
    return state


def load_weights(run_dir: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(run_dir / RunFile.LAST)["state_dict"]
    return state
