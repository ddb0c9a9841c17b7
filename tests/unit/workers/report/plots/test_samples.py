"""Sample images with the boxes of all detectors of a pair."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.protocol.report import ReportInputs
from tests.support.workers.report_inputs import make_comparison, make_run_id, make_run_inputs
from tests.support.workers.saved_detections import RunFolders
from workers.data.manifest import read_manifest
from workers.evaluation.drawing import COLORS
from workers.report.plots import samples
from workers.report.plots.samples import draw_samples


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> RunFolders:
    folders = RunFolders(tmp_path_factory.mktemp("runs"))
    folders.write_run(make_run_id(0), student=0.4, seed=1)
    folders.write_run(make_run_id(1), student=0.8, teacher=0.95, seed=2)
    return folders


@pytest.fixture
def inputs(folders: RunFolders) -> ReportInputs:
    return make_run_inputs(folders.folder)


@pytest.fixture
def images(folders: RunFolders) -> Path:
    return folders.data / read_manifest(folders.data).val.images


def test_each_image_has_truth_teacher_baseline_and_student(
    inputs: ReportInputs, images: Path
) -> None:
    drawn = draw_samples(make_comparison(), inputs, folder=images)

    assert 4 < len(drawn) <= 8
    sides = [photo.caption.split(":")[0] for photo in drawn[0].photos]
    assert sides == ["truth", "teacher", "baseline", "student"]
    assert "evenly sampled" in drawn[0].caption
    assert "more object" in drawn[4].caption
    for panels in drawn:
        for side, photo in zip(sides, panels.photos, strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(photo.jpeg))).astype(int)
            assert max(pixels.shape) == 320
            num_box_pixels = (np.abs(pixels - COLORS[side]).sum(axis=2) < 60).sum()
            assert num_box_pixels > 50 or photo.caption.endswith(" 0 boxes")


def test_even_samples_do_not_depend_on_the_detections(
    folders: RunFolders, inputs: ReportInputs, images: Path
) -> None:
    folders.write_run(make_run_id(2), student=0.9, seed=5)
    swapped = make_comparison(runs=(make_run_id(0),), baselines=(make_run_id(1),))

    first, second = (draw_samples(c, inputs, folder=images) for c in (make_comparison(), swapped))

    even = [[p.caption for p in drawn if "evenly" in p.caption] for drawn in (first, second)]
    assert even[0] == even[1]
    assert len(even[0]) == 4


def test_samples_have_a_size_limit(
    inputs: ReportInputs, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw_samples(make_comparison(), inputs, folder=images)
    sizes = [sum(len(photo.jpeg) for photo in panels.photos) for panels in drawn]
    monkeypatch.setattr(samples, "MAX_SAMPLES_BYTES", sizes[0] + sizes[1])

    limited = draw_samples(make_comparison(), inputs, folder=images)

    assert limited == drawn[:2]
    assert sum(sizes) <= 400_000


def test_images_that_cannot_be_read_are_left_out(inputs: ReportInputs, tmp_path: Path) -> None:
    assert draw_samples(make_comparison(), inputs, folder=tmp_path) == ()
