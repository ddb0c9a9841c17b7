"""Specs of jobs with the included digits teacher, and running them by the command line."""

import json
from pathlib import Path
from typing import Any

import yaml

from configs.protocol.names import RunFile
from tests.support.training.worker_processes import run_worker

TEACHERS = Path(__file__).parents[3] / "configs" / "teachers"
TIMEOUT_S = 240


def load_digits_teacher() -> dict[str, Any]:
    card = json.loads((TEACHERS / "digits-teacher.json").read_text())
    return {
        "checkpoint": str(TEACHERS / "digits-teacher.pth"),
        "detector": card["detector"],
        "classes": card["classes"],
    }


def make_evaluation_spec(digits: Path, **changes: Any) -> dict[str, Any]:
    data = {"dataset": {"root": str(digits)}, "image_size": [96, 96], "num_workers": 0}
    spec = {
        "task": "evaluate",
        "model": load_digits_teacher(),
        "data": data,
        "timing": {"images": 4},
    }
    return spec | changes


def make_export_spec(digits: Path, **changes: Any) -> dict[str, Any]:
    spec = {
        "task": "export",
        "model": load_digits_teacher(),
        "image_size": [96, 96],
        "dataset": {"root": str(digits)},
        "compared_images": 4,
    }
    return spec | changes


def run_job(spec: dict[str, Any], run_dir: Path) -> int:
    """Run the command of a spec's task; returns its exit code."""
    file = run_dir.parent / f"{run_dir.name}.yaml"
    file.write_text(yaml.safe_dump(spec))
    arguments = (spec["task"], "--spec", str(file), "--run-dir", str(run_dir))
    return run_worker(*arguments, timeout_s=TIMEOUT_S)


def read_spool(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / RunFile.SPOOL).read_text().splitlines()]
