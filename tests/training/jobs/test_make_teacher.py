"""The card of a teacher that a run becomes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from configs.protocol.names import RunFile
from tests.support.training.digits import write_digits
from tests.support.training.jobs import load_digits_teacher
from tests.support.training.runs import make_spec
from workers.jobs.make_teacher import make_teacher


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=2, val=2)


def make_card(digits: Path, folder: Path, *, limit: int) -> dict[str, Any]:
    teacher = load_digits_teacher()
    run_dir = folder / f"run-{limit}"
    (run_dir / RunFile.BEST).parent.mkdir(parents=True)
    shutil.copy(teacher["checkpoint"], run_dir / RunFile.BEST)
    spec = make_spec(digits, student=teacher["detector"], evaluation={"max_detections": limit})
    (run_dir / RunFile.SPEC).write_text(json.dumps(spec))
    return make_teacher(run_dir, name="big", out=folder)


def test_the_card_says_how_many_detections_its_map_counts(digits: Path, tmp_path: Path) -> None:
    default, other = (make_card(digits, tmp_path, limit=limit) for limit in (100, 300))

    assert default["source"].endswith("made by tandem-worker make-teacher")
    assert other["source"].endswith("; its mAP counts at most 300 detections of an image")
