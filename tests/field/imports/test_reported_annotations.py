"""The inputs of bug reports about annotations, imported as a user would."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.workers.field_inputs import find_field, import_field
from workers.cli.layout_imports import app
from workers.data.import_report import REPORT
from workers.data.manifest import check_dataset

COCO = {
    "id-types/via_strings": ("cat",),
    "look-alike/backslash": ("cat",),
    "roboflow/roboflow_same": ("fish",),
}
VOC = {
    "voc-endings/voc_ext_tif": ("cat",),
    "voc-size/voc_zero_size": ("cat",),
    "xml-encodings/voc_shift_jis": ("猫",),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "imported"


def import_voc(folder: str, out: Path) -> Result:
    root = find_field(folder)
    return CliRunner().invoke(
        app, ["import-voc", "--name", "field", f"--out={out}", f"--root={root}"]
    )


def check_complete(out: Path, classes: tuple[str, ...]) -> None:
    manifest = check_dataset(out)
    assert manifest.classes == classes
    for split in (manifest.train, manifest.val):
        assert (split.num_images, split.num_boxes) == (2, 2)


@pytest.mark.parametrize("folder", COCO)
def test_a_coco_folder_is_imported_completely(folder: str, out: Path) -> None:
    result = import_field(folder, out)

    assert result.exit_code == 0, result.output
    check_complete(out, COCO[folder])


@pytest.mark.parametrize("folder", VOC)
def test_a_voc_folder_is_imported_completely(folder: str, out: Path) -> None:
    result = import_voc(folder, out)

    assert result.exit_code == 0, result.output
    check_complete(out, VOC[folder])


@pytest.mark.parametrize("folder", [*COCO, *VOC])
def test_the_layout_of_a_folder_is_recognized(folder: str, out: Path) -> None:
    root = find_field(folder)

    result = CliRunner().invoke(app, ["import", str(root), "--name", "field", f"--out={out}"])

    assert result.exit_code == 0, result.output
    check_complete(out, (COCO | VOC)[folder])


def test_the_image_of_the_complete_line_is_imported(out: Path) -> None:
    result = import_voc("voc-lists/voc_blank_wrong", out)

    assert result.exit_code == 0, result.output
    document = json.loads((out / "annotations" / "train.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["scan 1.jpg"]


def test_1203_classes_are_imported(out: Path) -> None:
    result = import_field("many-classes/classes_1203", out)

    assert result.exit_code == 0, result.output
    assert len(check_dataset(out).classes) == 1203


def test_a_size_of_zero_is_noted(out: Path) -> None:
    import_voc("voc-size/voc_zero_size", out)

    notes = json.loads((out / REPORT).read_text())["notes"]
    assert any("no size in the annotations" in note for note in notes)
