"""The commands `tandem-worker data import` and `import-yolo`, and what importers print."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from configs.protocol.names import ExitCode
from configs.spec.dataset import MAX_CLASSES
from tests.support.workers.dataset_folders import (
    CocoFolder,
    VocFolder,
    coco_box,
    coco_image,
    write_image,
)
from workers.cli.layout_imports import app
from workers.data.import_report import REPORT
from workers.data.manifest import read_manifest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "ours" / "set"


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolder:
    return CocoFolder(tmp_path / "theirs")


def run_data_command(*text: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in text])


def import_folder(folder: Path, out: Path, *options: object) -> Result:
    return run_data_command("import", folder, "--out", out, "--name", "pets", *options)


def import_coco(coco: CocoFolder, out: Path, *options: object) -> Result:
    coco.save()
    return run_data_command(
        "import-coco",
        *("--out", out, "--name", "pets"),
        *("--train-annotations", coco.train_json, "--train-images", coco.root / "train"),
        *("--val-annotations", coco.val_json, "--val-images", coco.root / "val"),
        *options,
    )


def test_a_folder_is_imported_without_options(coco: CocoFolder, out: Path) -> None:
    coco.save()

    result = import_folder(coco.root, out)

    assert result.exit_code == 0, result.output
    manifest = read_manifest(out)
    assert (manifest.train.num_images, manifest.val.num_images) == (2, 1)
    assert manifest.source == f"COCO folder {coco.root}"


def test_the_folder_may_be_an_option(tmp_path: Path, out: Path) -> None:
    root = VocFolder(tmp_path / "theirs").root

    result = run_data_command("import", "--root", root, "--out", out, "--name", "pets")

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("arguments", [(), ("x", "--root", "x")], ids=["none", "twice"])
def test_the_folder_is_given_once(out: Path, arguments: tuple[str, ...]) -> None:
    result = run_data_command("import", *arguments, "--out", out, "--name", "pets")

    assert result.exit_code == 2
    assert "FOLDER" in result.output


def test_an_unknown_layout_is_refused_without_a_traceback(tmp_path: Path, out: Path) -> None:
    (tmp_path / "some").mkdir()

    result = import_folder(tmp_path / "some", out)

    assert result.exit_code == ExitCode.REFUSED
    assert "Understood are:" in result.output
    assert not out.parent.exists()


def test_the_same_seed_gives_the_same_dataset(tmp_path: Path, out: Path) -> None:
    voc = VocFolder(tmp_path / "theirs")
    shutil.rmtree(voc.root / "ImageSets")

    result = import_folder(voc.root, out)
    import_folder(voc.root, tmp_path / "again", "--val-fraction", 0.2, "--split-seed", 0)

    assert result.exit_code == 0, result.output
    assert "There is no val: 1 of 3 images" in result.output
    assert read_manifest(out).digest == read_manifest(tmp_path / "again").digest


def test_yolo_is_imported_by_its_description(tmp_path: Path, out: Path) -> None:
    for shade, split in enumerate(("train", "val")):
        write_image(tmp_path / "set" / "images" / split / "a.jpg", shade=shade)
        labels = tmp_path / "set" / "labels" / split / "a.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text("1 0.5 0.5 0.5 0.5\n")
    data = tmp_path / "set" / "data.yaml"
    data.write_text("train: images/train\nval: images/val\nnames: [dog, cat]\n")

    result = run_data_command(
        "import-yolo", "--data", data, "--out", out, "--name", "pets", "--skip-empty-classes"
    )

    assert result.exit_code == 0, result.output
    assert read_manifest(out).classes == ("cat",)
    document = json.loads((out / "annotations" / "train.json").read_text())
    assert document["images"][0]["width"] == 40
    assert document["annotations"][0]["bbox"] == [10, 7.5, 20, 15]


def test_1203_classes_are_imported(coco: CocoFolder, out: Path) -> None:
    coco.train["categories"] += [{"id": 100 + i, "name": f"thing {i}"} for i in range(1201)]

    result = import_coco(coco, out)

    assert result.exit_code == 0, result.output
    assert len(read_manifest(out).classes) == 1203


def test_too_many_classes_are_refused_before_an_image_is_read(coco: CocoFolder, out: Path) -> None:
    coco.train["categories"] = [{"id": i, "name": f"thing {i}"} for i in range(MAX_CLASSES + 1)]
    shutil.rmtree(coco.root / "train")

    result = import_coco(coco, out)

    assert result.exit_code == ExitCode.REFUSED
    assert "100,001 classes, and 100,000 are possible" in result.output
    assert "missing_image" not in result.output


def test_roboflows_root_is_no_class_and_is_noted(coco: CocoFolder, out: Path) -> None:
    classes = [{"id": 7, "name": "cat", "supercategory": "cat"}]
    for document in (coco.train, coco.val):
        document["categories"] = [{"id": 0, "name": "cat", "supercategory": "none"}, *classes]

    result = import_coco(coco, out)

    assert result.exit_code == 0, result.output
    assert read_manifest(out).classes == ("cat",)
    assert read_manifest(out).train.num_boxes == 2
    assert "Category 0 'cat' is the parent of all others" in result.output


def test_classes_decide_names_and_order_whatever_the_root_is(coco: CocoFolder, out: Path) -> None:
    for document in (coco.train, coco.val):
        document["categories"] = [
            {"id": 0, "name": "pets", "supercategory": "none"},
            {"id": 3, "name": "dog", "supercategory": "pets"},
            {"id": 7, "name": "cat", "supercategory": "pets"},
        ]

    result = import_coco(coco, out, "--classes", "pets,cat,dog")

    assert result.exit_code == 0, result.output
    assert read_manifest(out).classes == ("pets", "cat", "dog")


def test_the_same_files_may_be_train_and_val(coco: CocoFolder, out: Path) -> None:
    coco.save()
    same = (
        *("import-coco", "--out", out, "--name", "pets"),
        *("--train-annotations", coco.train_json, "--train-images", coco.root / "train"),
        *("--val-annotations", coco.train_json, "--val-images", coco.root / "train"),
    )

    refused = run_data_command(*same)
    result = run_data_command(*same, "--allow-leak")

    assert refused.exit_code == ExitCode.REFUSED
    assert "--allow-leak keeps 2 images in train and val" in refused.output
    assert result.exit_code == 0, result.output
    manifest = read_manifest(out)
    assert (manifest.train.num_images, manifest.val.num_images) == (2, 2)


def test_notes_are_in_the_report(coco: CocoFolder, out: Path) -> None:
    coco.train["images"][0] |= {"width": 0, "height": 0}

    result = import_coco(coco, out)

    assert result.exit_code == 0, result.output
    (note,) = json.loads((out / REPORT).read_text())["notes"]
    assert "1 images have no size in the annotations" in note


def test_names_that_are_written_differently_are_noted(coco: CocoFolder, out: Path) -> None:
    coco.train["images"][0] = coco_image(11, "train\\A.PNG ")
    coco.train["annotations"].append(coco_box(9, 11))

    result = import_coco(coco, out)

    assert result.exit_code == 0, result.output
    assert "'train\\\\A.PNG ' is taken for 'a.png'" in result.output
