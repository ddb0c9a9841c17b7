"""Training runs as the command line does them: a spec, a folder, and what is found there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from configs.spec import Metric, RunFile
from workers.checkpoints import load_checkpoint

WORKER = Path(sys.executable).parent / "tandem-worker"
PATIENCE_S = 240
STUDENT = {
    "backbone": {"depth": 18, "width": 0.125},
    "neck": {"channels": 32},
    "head": {"convs": 1, "channels": 32, "reg_max": 8},
}
UNTIMED = (Metric.IMAGES_PER_S, Metric.INFERENCE_IMAGES_PER_S)


def a_spec(digits: Path, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "student": STUDENT,
        "data": {
            "dataset": {"root": str(digits)},
            "image_size": [96, 96],
            "batch_size": 8,
            "loader_workers": 0,
        },
        "schedule": {
            "epochs": 3,
            "optimizer": {"kind": "adamw", "lr": 2e-3},
            "max_grad_norm": 10.0,
        },
        "evaluation": {"pictures": 1, "batch_size": 4},
    }
    return spec | changes


def command(spec: dict[str, Any], run_dir: Path, *, attempt: int = 1) -> list[str]:
    file = run_dir.parent / f"{run_dir.name}.yaml"
    file.write_text(yaml.safe_dump(spec))
    options = ("--spec", str(file), "--run-dir", str(run_dir), "--attempt", str(attempt))
    return [str(WORKER), "train", *options]


def train(spec: dict[str, Any], run_dir: Path, *, attempt: int = 1) -> int:
    return subprocess.run(
        command(spec, run_dir, attempt=attempt), timeout=PATIENCE_S, check=False
    ).returncode


def records(run_dir: Path) -> list[dict[str, Any]]:
    spool = run_dir / RunFile.SPOOL
    if not spool.exists():
        return []
    whole, _, _ = spool.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def said(run_dir: Path) -> dict[tuple[str, int], float]:
    """Every metric value by key and step; a value that is said twice fails."""
    values: dict[tuple[str, int], float] = {}
    for record in records(run_dir):
        for key, value in record.get("values", {}).items():
            assert (key, record["step"]) not in values, "said twice"
            if key not in UNTIMED:
                values[key, record["step"]] = value
    return values


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(run_dir / RunFile.LAST)["state_dict"]
    return state
