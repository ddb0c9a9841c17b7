"""`tandem distill`: from a folder of photos to a table and a page, at a tiny size."""

from pathlib import Path

import pytest

from service.api.schemas.run_lists import RunQuery
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.blood_cells import BCCD, MISSING_WEIGHTS, copy_photos
from tests.support.stack.shell import open_shell

NUM_PHOTOS = 20
TINY = ("--epochs", "1", "data.image_size=[160, 120]", "evaluation.pictures=2")
TIMEOUT_S = 900

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(not BCCD.is_dir(), reason=f"the blood cells are not at {BCCD}"),
    pytest.mark.skipif(
        bool(MISSING_WEIGHTS),
        reason=f"not installed, `make bccd` does it: {', '.join(MISSING_WEIGHTS)}",
    ),
]


def test_a_folder_of_photos_becomes_a_table_and_a_page_in_two_commands(tmp_path: Path) -> None:
    photos = copy_photos(tmp_path / "photos", count=NUM_PHOTOS)
    page = tmp_path / "page.html"
    with open_shell(tmp_path) as shell:
        distill = ("distill", str(photos), "--drop-bad", *TINY)
        planned = shell.run(*distill, "--plan", timeout_s=TIMEOUT_S)
        output = shell.run(*distill, "--page", str(page), timeout_s=TIMEOUT_S)
        statistics = shell.run("data", "show", "photos")
        with TandemClient(shell.url) as client:
            runs = {run.preset: run for run in client.runs(RunQuery(task=("train",))).items}
        teacher = ("--teacher", runs["bccd/teacher"].id, "--seeds", "1,2", "--plan")
        with_teacher = shell.run("distill", "photos", *TINY, *teacher)

    assert "EfficientNet-Lite2, trained first (bccd/teacher)" in planned
    assert "evaluated on 4 images" in planned
    assert {run.state for run in runs.values()} == {RunState.SUCCEEDED}
    assert {run.dataset for run in runs.values()} == {"photos"}
    for text in ("baseline", "with BCKD", "gap closed", "One pair measured", "Report page"):
        assert text in output
    assert "<html" in page.read_text(encoding="utf-8")
    assert "looks like a training image" in statistics
    assert set(runs) == {"bccd/teacher", "bccd/bckd", None}
    assert runs["bccd/teacher"].id in with_teacher
    assert "trained first" not in with_teacher
