"""`tandem bccd`: teacher, baseline and distilled student on blood cells, at a tiny size."""

from pathlib import Path

import pytest

from service.api.schemas.run_lists import RunQuery
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.blood_cells import BCCD, MISSING_WEIGHTS
from tests.support.stack.shell import open_shell

TINY = (
    "schedule.epochs=1",
    "data.train_images=8",
    "data.image_size=[160, 120]",
    "evaluation.every_epochs=1",
    "evaluation.val_images=4",
    "evaluation.pictures=2",
)
TIMEOUT_S = 480

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not BCCD.is_dir(), reason=f"the blood cells are not at {BCCD}"),
    pytest.mark.skipif(
        bool(MISSING_WEIGHTS),
        reason=f"not installed, `make bccd` does it: {', '.join(MISSING_WEIGHTS)}",
    ),
]


def test_the_blood_cells_experiment_ends_with_its_table_and_is_found_again(tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        output = shell.run("bccd", "--data", str(BCCD), *TINY, timeout_s=TIMEOUT_S)
        with TandemClient(shell.url) as client:
            listed = client.runs(RunQuery(task=("train",))).items
            runs = {run.preset: client.run(run.id) for run in listed}
        again = shell.run("bccd", "--data", str(BCCD), *TINY, timeout_s=TIMEOUT_S)

    assert set(runs) == {"bccd/teacher", "bccd/bckd", None}
    assert runs["bccd/bckd"].baseline_run_id == runs[None].id
    assert {run.state for run in runs.values()} == {RunState.SUCCEEDED}
    assert runs["bccd/bckd"].teacher_map == pytest.approx(runs["bccd/teacher"].best_map, abs=1e-6)
    for text in (
        *("baseline", "with BCKD", "gap closed"),
        *("One pair measured", "tandem repeat", "Compare in MLflow", "Report page"),
    ):
        assert text in output
    assert again.count("exists already") == 2
