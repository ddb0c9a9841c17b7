"""Specs of jobs with the included digits teacher, run by the command line."""

import json
from pathlib import Path
from typing import Any

import yaml

from configs.protocol.names import RunFile
from tests.support.training.worker_processes import run_worker

TEACHERS = Path(__file__).parents[3] / "configs" / "teachers"
PATIENCE_S = 240


def the_teacher() -> dict[str, Any]:
    card = json.loads((TEACHERS / "digits-teacher.json").read_text())
    return {
        "checkpoint": str(TEACHERS / "digits-teacher.pth"),
        "detector": card["detector"],
        "classes": card["classes"],
    }


def an_evaluation(digits: Path, **changes: Any) -> dict[str, Any]:
    data = {"dataset": {"root": str(digits)}, "image_size": [96, 96], "num_workers": 0}
    spec = {"task": "evaluate", "model": the_teacher(), "data": data, "timing": {"images": 4}}
    return spec | changes


def an_export(digits: Path, **changes: Any) -> dict[str, Any]:
    spec = {
        "task": "export",
        "model": the_teacher(),
        "image_size": [96, 96],
        "dataset": {"root": str(digits)},
        "compared_images": 4,
    }
    return spec | changes


def do(spec: dict[str, Any], run_dir: Path) -> int:
    """Run the command of a spec's task; returns its exit code."""
    file = run_dir.parent / f"{run_dir.name}.yaml"
    file.write_text(yaml.safe_dump(spec))
    arguments = (spec["task"], "--spec", str(file), "--run-dir", str(run_dir))
    return run_worker(*arguments, timeout_s=PATIENCE_S)


def spool_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / RunFile.SPOOL).read_text().splitlines()]
