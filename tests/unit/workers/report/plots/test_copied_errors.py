"""Images of copied errors: only the boxes that overlap the error."""

import pytest

from configs.protocol.copied_errors import CopiedError, CopiedErrors, CopiedShare
from configs.protocol.report import Report, ReportInputs
from tests.support.workers.report_inputs import make_run_id, make_run_inputs, make_run_report
from tests.support.workers.saved_detections import RunFolders
from workers.analysis.matches import load_matches
from workers.data.manifest import read_manifest
from workers.report.plots.copied_errors import draw_copied_errors
from workers.report.results.pairs import matches_file

NO_SHARE = CopiedShare(errors=1, copied=1, baseline_errors=0, baseline_copied=0, difference=None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> RunFolders:
    folders = RunFolders(tmp_path_factory.mktemp("runs"), images=4)
    folders.write_run(make_run_id(0), student=1.0, seed=1)
    folders.write_run(make_run_id(1), student=0.0, teacher=0.0, seed=2)
    return folders


def make_report(inputs: ReportInputs) -> Report:
    """A report of one copied miss, of the first object of all."""
    truth = load_matches(matches_file(inputs.runs[1]))
    error = CopiedError(
        kind="missed",
        file=truth.files[truth.image_G[0]],
        class_name=truth.class_names[truth.class_G[0]],
        box=tuple(truth.box_G4[0].tolist()),
        score=0.8,
    )
    copied = CopiedErrors(
        runs=(make_run_id(1),),
        baselines=(make_run_id(0),),
        false_positives=NO_SHARE,
        missed=NO_SHARE,
        examples=(error,),
    )
    return make_run_report(copied_errors=copied)


def test_an_error_has_truth_teacher_baseline_and_student(folders: RunFolders) -> None:
    inputs = make_run_inputs(folders.folder)
    images = folders.data / read_manifest(folders.data).val.images

    (panels,) = draw_copied_errors(make_report(inputs), inputs, folder=images)

    captions = dict(photo.caption.split(": ") for photo in panels.photos)
    assert captions["truth"] == captions["baseline"]
    assert captions["teacher"] == captions["student"] == "0 boxes"
    assert "is missed by the teacher and by the distilled student" in panels.caption
    assert panels.photos[0].name == "copied-01-truth"


def test_without_examples_nothing_is_drawn(folders: RunFolders) -> None:
    inputs = make_run_inputs(folders.folder)

    assert draw_copied_errors(make_run_report(), inputs, folder=folders.data) == ()
