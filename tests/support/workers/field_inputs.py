"""Inputs of bug reports, which lie outside of the repository, and their import."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from workers.cli.data import app

FIELD = Path(__file__).parents[4] / "shared" / "field"


def import_field(folder: str, out: Path, *options: str) -> Result:
    """Import a folder in COCO format as a user would; skips the test where it is not there."""
    source = find_field(folder)
    splits = {
        f"--{split}-{kind}": source / (f"{split}.json" if kind == "annotations" else split)
        for split in ("train", "val")
        for kind in ("annotations", "images")
    }
    arguments = [f"{option}={path}" for option, path in splits.items()]
    return CliRunner().invoke(
        app, ["import-coco", "--name", "field", f"--out={out}", *arguments, *options]
    )


def find_field(folder: str) -> Path:
    """The folder of a bug report's input; skips the test where it is not there."""
    source = FIELD / folder
    if not source.is_dir():
        pytest.skip(f"{source} is not there: it lies beside the repository, not in it")
    return source
