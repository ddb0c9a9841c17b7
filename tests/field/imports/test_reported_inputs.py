"""The inputs of bug reports, imported as a user would; README.md says where they come from."""

import json
from pathlib import Path

import pytest

from configs.protocol.names import ExitCode
from tests.support.workers.field_inputs import find_field, import_field
from tests.support.workers.perfect_detections import (
    open_validation,
    score_truth,
    score_truth_plainly,
)
from workers.data.images import read_size
from workers.data.import_report import REPORT
from workers.data.manifest import check_dataset

ACCEPTED = {
    "apostrophe/plain": (),
    "orientation/tif_upright": (),
    "orientation/xmp_as_stored": (),
    "outside/outside": ("--clip",),
    "readable/png_text": (),
    "same-stem/same_stem": (),
    "small-images/tiny28": (),
    "thin/thin_val": (),
    "long-name/name_long": ("--drop-bad",),
    "unprintable/surrogate": ("--drop-bad",),
    "wide-ids/hash64_ids": (),
}
"""Folders that can be trained on, with the options that this needs."""

REFUSED = {
    "orientation/tif_as_stored": "4 size_mismatch",
    "unreadable/float_tif": "mode F",
    "only-crowd/crowd_val": "each of its 2 usable boxes is a crowd",
    "long-name/name_long": "1 unsafe_path",
    "unprintable/surrogate": "--drop-bad loses 0 of 4 boxes and 1 of 5 images",
    "outside/outside": "--clip keeps all 4 boxes",
}
"""Folders that need a decision of the user, with what the output has to say."""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "imported"


@pytest.mark.parametrize("folder", ACCEPTED)
def test_a_good_folder_is_imported_and_loses_nothing(folder: str, out: Path) -> None:
    result = import_field(folder, out, *ACCEPTED[folder])

    assert result.exit_code == 0, result.output
    source = json.loads((find_field(folder) / "val.json").read_text())
    manifest = check_dataset(out)
    assert manifest.val.num_images == len(source["images"])
    assert manifest.val.num_boxes == len(source["annotations"])
    assert (out / REPORT).is_file()


@pytest.mark.parametrize("folder", ACCEPTED)
def test_the_truth_scores_one_and_a_part_of_it_its_share(folder: str, out: Path) -> None:
    import_field(folder, out, *ACCEPTED[folder])
    dataset = open_validation(out)
    num_images = len(dataset)

    metrics = score_truth(dataset, set(range(num_images)))

    assert metrics.mean_ap == pytest.approx(1.0)
    assert list(metrics.ap_by_class.values()) == pytest.approx([1.0])
    for index in range(num_images):
        share = score_truth(dataset, {index}).mean_ap
        assert share == pytest.approx(score_truth_plainly(dataset, {index}))
        assert 0 < share < 1


@pytest.mark.parametrize("folder", REFUSED)
def test_a_bad_folder_is_refused_with_its_reason(folder: str, out: Path) -> None:
    result = import_field(folder, out)

    assert result.exit_code == ExitCode.REFUSED
    assert REFUSED[folder] in result.output
    assert not out.exists()


def test_an_orientation_that_opencv_does_not_know_is_ignored() -> None:
    picture = find_field("orientation") / "xmp6.png"

    assert read_size(picture.read_bytes()) == (64, 40)
