"""Detections of a run's student, as `tandem predict` draws them."""

import json
import shutil
from pathlib import Path

import pytest

from configs.protocol.names import RunFile
from tests.support.training.digits import write_digits
from tests.support.training.jobs import load_digits_teacher
from tests.support.training.runs import make_spec
from workers.export.tandem_runtime import read_image
from workers.jobs.predict import load_detector


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=4, val=6)


def test_a_student_reports_as_many_detections_as_its_run_counted(
    digits: Path, tmp_path: Path
) -> None:
    teacher = load_digits_teacher()
    image = read_image(sorted((digits / "images" / "val").iterdir())[0])
    counts = []
    for limit in (2, 100):
        run_dir = tmp_path / str(limit)
        (run_dir / RunFile.BEST).parent.mkdir(parents=True)
        shutil.copy(teacher["checkpoint"], run_dir / RunFile.BEST)
        spec = make_spec(digits, student=teacher["detector"], evaluation={"max_detections": limit})
        (run_dir / RunFile.SPEC).write_text(json.dumps(spec))
        counts.append(len(load_detector(run_dir).detect(image).scores_N))

    assert counts[0] == 2 < counts[1]
