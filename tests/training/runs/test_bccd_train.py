"""Training on an imported dataset of real microscope images."""

import json
from pathlib import Path

import pytest
import yaml

from configs.protocol.names import ExitCode, RunFile
from tests.support.training.runs import STUDENT, TIMEOUT_S, read_records
from tests.support.training.worker_processes import run_worker

BCCD = Path(__file__).parents[3].parent / "shared" / "datasets" / "bccd"


@pytest.mark.slow  # test_bccd_import.py checks these images
@pytest.mark.skipif(not BCCD.is_dir(), reason=f"the BCCD images are not at {BCCD}")
def test_a_students_own_microscope_images_train(tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    options = ("--root", str(BCCD), "--out", str(cells), "--name", "cells", "--drop-bad")
    assert run_worker("data", "import-voc", *options, timeout_s=TIMEOUT_S) == 0
    spec = {
        "student": STUDENT,
        "data": {
            "dataset": {"root": str(cells)},
            "image_size": [320, 240],
            "batch_size": 4,
            "train_images": 12,
            "num_workers": 2,
        },
        "schedule": {"epochs": 1, "optimizer": {"kind": "adamw"}, "max_grad_norm": 10.0},
        "evaluation": {"val_images": 4, "pictures": 2, "batch_size": 2},
    }
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    run_dir = tmp_path / "run"

    arguments = ("train", "--spec", str(file), "--run-dir", str(run_dir))
    code = run_worker(*arguments, timeout_s=TIMEOUT_S)

    assert code == ExitCode.SUCCEEDED
    result = [record for record in read_records(run_dir) if record["kind"] == "metrics"]
    assert any("val/bbox_mAP" in record["values"] for record in result)
    per_class = json.loads((run_dir / RunFile.PER_CLASS_AP).read_text())
    assert set(per_class) == {"Platelets", "RBC", "WBC"}
    assert (run_dir / "pictures" / "overview.png").exists()
