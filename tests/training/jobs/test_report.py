"""The report job, run by the command line: from the folders of runs to a page."""

import html
import json
from pathlib import Path
from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode, RunFile
from configs.protocol.report import Report, ReportInputs
from configs.spec.references import DatasetFiles
from tests.support.training.jobs import read_spool, run_job
from tests.support.workers.report_inputs import (
    make_baseline_run,
    make_distilled_run,
    make_run_id,
    make_run_inputs,
)
from tests.support.workers.saved_detections import RunFolders
from workers.report.render.markdown import escape_markdown


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunFolders:
    runs = RunFolders(tmp_path_factory.mktemp("runs"))
    runs.write_run(make_run_id(0), student=0.2)
    runs.write_run(make_run_id(1), student=0.85, teacher=0.95, seed=1)
    return runs


REPORT = {"task": "report", "run": make_run_id(1)}


def write_inputs(runs: RunFolders, folder: Path, **dataset: Any) -> None:
    """Write the inputs of a report into its folder, as the service does."""
    members = (make_baseline_run(runs.folder), make_distilled_run(runs.folder, number=1))
    data = DatasetFiles(root=str(runs.data), **dataset)
    inputs: ReportInputs = make_run_inputs(runs.folder, runs=members, dataset=data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RunFile.REPORT_INPUTS).write_text(inputs.model_dump_json())


def test_a_run_s_report_is_a_page_markdown_and_json_and_all_files_are_logged(
    runs: RunFolders, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    stale = folder / RunFile.REPORT / "missed-99.jpg"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier attempt")
    write_inputs(runs, folder)

    code = run_job(REPORT, folder)

    assert code == ExitCode.SUCCEEDED
    report = Report.model_validate_json((folder / RunFile.REPORT_JSON).read_bytes())
    assert report.comparisons[0].verdict == "helps"
    assert report.transfer is not None
    page = (folder / RunFile.REPORT_PAGE).read_text()
    assert "Distillation helps" in page
    assert report.conclusion in html.unescape(page)
    assert escape_markdown(report.conclusion) in (folder / RunFile.REPORT_MARKDOWN).read_text()
    photos = {file.stem for file in (folder / RunFile.REPORT).glob("*.jpg")}
    assert page.count("data:image/jpeg") == len(photos)
    assert len([name for name in photos if name.startswith("missed-")]) == min(
        12, len(report.transfer.images)
    )
    sides = {f"sample-01-{side}" for side in ("truth", "teacher", "baseline", "student")}
    assert sides <= photos
    assert "Distillation helps" in (folder / RunFile.REPORT_MARKDOWN).read_text()
    records = read_spool(folder)
    artifacts = {record["path"] for record in records if record["kind"] == "artifact"}
    files = {str(f.relative_to(folder)) for f in (folder / RunFile.REPORT).iterdir()}
    assert files | {RunFile.SPEC.value, RunFile.REPORT_INPUTS.value} == artifacts
    assert not stale.exists()
    (started,) = [record for record in records if record["kind"] == "started"]
    assert started["dataset_name"] == "digits"
    assert records[-1]["kind"] == "outcome"
    assert records[-1]["result"] == "succeeded"


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("missing", FailureReason.INVALID_SPEC),
        ("invalid", FailureReason.INVALID_SPEC),
        ("other images", FailureReason.DATASET_ERROR),
    ],
)
def test_a_report_of_nothing_or_of_other_images_is_refused(
    runs: RunFolders, tmp_path: Path, problem: str, reason: FailureReason
) -> None:
    folder = tmp_path / "report"
    if problem == "other images":
        write_inputs(runs, folder, digest="0" * 64)
    elif problem == "invalid":
        folder.mkdir()
        (folder / RunFile.REPORT_INPUTS).write_text("{}")

    code = run_job(REPORT, folder)

    assert code == ExitCode.REFUSED
    assert read_spool(folder)[-1]["reason"] == reason
    assert not (folder / RunFile.REPORT_JSON).exists()
    assert json.loads((folder / RunFile.SPEC).read_text())["task"] == "report"
