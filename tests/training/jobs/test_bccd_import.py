"""Import of a real dataset with real problems: BCCD, 364 microscope images in VOC format."""

import contextlib
import io
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from typer.testing import CliRunner, Result

from configs.protocol.names import ExitCode
from workers.cli.data import app
from workers.data.manifest import check_dataset

BCCD = Path(__file__).parents[3].parent / "shared" / "datasets" / "bccd"

pytestmark = pytest.mark.skipif(
    not BCCD.is_dir(), reason=f"the blood cells are not at {BCCD}; see their README for the source"
)


def import_bccd(out: Path, *options: str) -> Result:
    arguments = ["import-voc", "--root", str(BCCD), "--out", str(out), "--name", "bccd"]
    return CliRunner().invoke(
        app, [*arguments, "--train-set", "trainval", "--val-set", "test", *options]
    )


def test_exactly_its_two_degenerate_boxes_are_found(tmp_path: Path) -> None:
    result = import_bccd(tmp_path / "bccd")

    lines = [line for line in result.output.splitlines() if ".xml: " in line]
    assert result.exit_code == ExitCode.REFUSED
    assert [
        line.strip().removeprefix(f"{BCCD}/Annotations/").split(" with")[0] for line in lines
    ] == [
        "BloodImage_00338.xml: line 158: degenerate_box: RBC",
        "BloodImage_00343.xml: line 50: degenerate_box: RBC",
    ]
    assert list(tmp_path.iterdir()) == []


def test_without_them_every_box_is_kept_and_pycocotools_reads_it(tmp_path: Path) -> None:
    result = import_bccd(tmp_path / "bccd", "--drop-bad")

    assert result.exit_code == 0, result.output
    manifest = check_dataset(tmp_path / "bccd")
    assert manifest.classes == ("Platelets", "RBC", "WBC")
    assert (manifest.train.num_images, manifest.val.num_images) == (292, 72)
    # 4155 RBC, 372 WBC and 361 platelets, less the two.
    assert manifest.train.num_boxes + manifest.val.num_boxes == 4888 - 2
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "bccd" / manifest.train.annotations))
    assert len(coco.getImgIds()) == 292
    assert [coco.cats[identifier]["name"] for identifier in coco.getCatIds()] == list(
        manifest.classes
    )
    assert all(
        (tmp_path / "bccd" / "images" / "train" / image["file_name"]).is_file()
        for image in coco.imgs.values()
    )
