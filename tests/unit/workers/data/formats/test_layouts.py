"""Folders as tools and public datasets lay them out are recognized and read without options."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.workers.dataset_folders import CocoFolder, VocFolder
from workers.data.formats.layouts import (
    AnnotationFormat,
    ParsedDataset,
    UnknownLayout,
    detect_layout,
    read_layout,
)
from workers.data.formats.seeded_split import SeededSplit
from workers.errors import DatasetError


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolder:
    folder = CocoFolder(tmp_path / "theirs")
    folder.save()
    return folder


@pytest.fixture
def voc(tmp_path: Path) -> VocFolder:
    return VocFolder(tmp_path / "theirs")


def read(root: Path) -> ParsedDataset:
    return read_layout(detect_layout(root), seeded=None)


def list_images(dataset: ParsedDataset) -> dict[str, list[str]]:
    """Names of the images of each split; each of them exists, and nothing is wrong."""
    for split in dataset.splits.values():
        assert split.problems == ()
        assert all((split.images_dir / image.name).is_file() for image in split.images)
    return {
        name: sorted(Path(image.name).name for image in split.images)
        for name, split in dataset.splits.items()
    }


def test_files_beside_folders_of_images_are_recognized(coco: CocoFolder) -> None:
    dataset = read(coco.root)

    assert list_images(dataset) == {"train": ["a.png", "b.png"], "val": ["c.png"]}
    assert dataset.classes == ("dog", "cat")


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"), "{}2017"),
        (("annotations/instances_train.json", "annotations/instances_val.json"), "images/{}"),
        (("annotations/train.json", "annotations/valid.json"), "{}/images"),
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), "{}"),
        (("train/labels.json", "val/labels.json"), "{}/images"),
    ],
    ids=["coco", "cvat", "subfolders", "roboflow", "label studio"],
)
def test_layouts_of_coco(
    coco: CocoFolder, tmp_path: Path, names: tuple[str, str], images: str
) -> None:
    root = tmp_path / "laid out"
    for split, name, source in zip(
        ("train", "val"), names, (coco.train_json, coco.val_json), strict=True
    ):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, file)
        folder = "valid" if "valid" in name and images == "{}" else split
        shutil.copytree(coco.root / split, root / images.format(folder), dirs_exist_ok=True)

    assert list_images(read(root)) == {"train": ["a.png", "b.png"], "val": ["c.png"]}


def test_files_that_show_cocos_format_are_not_parsed_again(
    coco: CocoFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    parse = json.loads

    def count_and_parse(text: bytes) -> object:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(json, "loads", count_and_parse)

    read_layout(detect_layout(coco.root, AnnotationFormat.COCO), seeded=None)

    assert sorted(parsed) == sorted(path.read_bytes() for path in coco.root.rglob("*.json"))


@pytest.mark.parametrize("folder", ["images", "data", "."])
def test_a_coco_export_without_splits_is_divided(
    coco: CocoFolder, tmp_path: Path, folder: str
) -> None:
    root = tmp_path / "export"
    shutil.copytree(coco.root / "train", root / folder)
    (root / "annotations").mkdir(exist_ok=True)
    shutil.copy(coco.train_json, root / "annotations" / "instances_default.json")

    dataset = read(root)

    images = list_images(dataset)
    assert sorted(images["train"] + images["val"]) == ["a.png", "b.png"]
    assert "There is no val: 1 of 2 images, 20%, become it by the seed 0." in dataset.notes


def test_captions_and_keypoints_beside_instances_are_left_out(coco: CocoFolder) -> None:
    folder = coco.root / "annotations"
    folder.mkdir()
    coco.train_json.rename(folder / "instances_train2017.json")
    coco.val_json.rename(folder / "instances_val2017.json")
    empty: dict[str, list[object]] = {"images": [], "annotations": [], "categories": []}
    (folder / "a_keypoints_train2017.json").write_text(json.dumps(empty))
    (folder / "captions_train2017.json").write_text("{}")

    assert list_images(read(coco.root))["train"] == ["a.png", "b.png"]


def test_the_layout_of_voc_is_recognized(voc: VocFolder) -> None:
    dataset = read(voc.root)

    assert list_images(dataset) == {"train": ["a.jpg", "b.jpg"], "val": ["c.jpg"]}
    assert dataset.classes == ("cat",)


def test_voc_with_annotations_and_images_in_folders_of_splits(
    voc: VocFolder, tmp_path: Path
) -> None:
    for split, names in (("train", "ab"), ("val", "c")):
        for kind, locate in (("annotations", voc.xml), ("images", voc.image)):
            folder = tmp_path / "laid out" / kind / split
            folder.mkdir(parents=True)
            for name in names:
                shutil.copy(locate(name), folder)

    dataset = read(tmp_path / "laid out")

    assert list_images(dataset) == {"train": ["a.jpg", "b.jpg"], "val": ["c.jpg"]}


@pytest.mark.parametrize("splits", [("train", "valid"), ("Train", "Val")], ids=str)
def test_voc_beside_images_in_folders_of_splits(
    voc: VocFolder, tmp_path: Path, splits: tuple[str, str]
) -> None:
    for split, names in zip(splits, ("ab", "c"), strict=True):
        folder = tmp_path / "laid out" / split
        folder.mkdir(parents=True)
        for name in names:
            shutil.copy(voc.xml(name), folder)
            shutil.copy(voc.image(name), folder)

    dataset = read(tmp_path / "laid out")

    assert list_images(dataset) == {"train": ["a.jpg", "b.jpg"], "val": ["c.jpg"]}


def test_voc_without_lists_is_divided(voc: VocFolder) -> None:
    shutil.rmtree(voc.root / "ImageSets")

    dataset = read(voc.root)

    assert {len(images) for images in list_images(dataset).values()} == {1, 2}


def test_the_only_folder_of_a_folder_is_entered(voc: VocFolder, tmp_path: Path) -> None:
    archive = tmp_path / "archive" / "deep"
    archive.mkdir(parents=True)
    voc.root.rename(archive / "set")
    (tmp_path / "archive" / "__MACOSX").mkdir()

    assert detect_layout(tmp_path / "archive").root == archive / "set"


def test_what_is_understood_and_what_was_seen_are_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "labels.csv").write_text("a")

    with pytest.raises(UnknownLayout) as exc_info:
        detect_layout(tmp_path)

    for text in ("COCO:", "VOC:", "ImageSets/Main/train.txt", "pictures/", "1 files of .csv"):
        assert text in str(exc_info.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownLayout, match=r"nowhere is not a folder"):
        detect_layout(tmp_path / "nowhere")


def test_two_formats_need_a_choice(voc: VocFolder, tmp_path: Path) -> None:
    coco = CocoFolder(tmp_path / "coco")
    coco.save()
    shutil.copytree(coco.root, voc.root, dirs_exist_ok=True)

    with pytest.raises(UnknownLayout, match="--format"):
        detect_layout(voc.root)

    assert detect_layout(voc.root, AnnotationFormat.VOC).format is AnnotationFormat.VOC


def test_a_dataset_of_tandem_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")

    with pytest.raises(UnknownLayout, match="tandem data add"):
        detect_layout(tmp_path)


def test_test_can_be_the_split_to_validate_on(coco: CocoFolder) -> None:
    coco.val_json.rename(coco.root / "test.json")
    (coco.root / "val").rename(coco.root / "test")
    layout = detect_layout(coco.root)

    dataset = read_layout(layout, val_set="test", seeded=None)

    assert layout.missing == ("val",)
    assert [image.name for image in dataset.splits["val"].images] == ["c.png"]


def test_a_missing_split_is_named_with_those_that_exist(coco: CocoFolder) -> None:
    layout = detect_layout(coco.root)

    with pytest.raises(DatasetError, match=r"no test; it has train, val.*--val-set"):
        read_layout(layout, val_set="test", seeded=None)


def test_a_seed_without_effect_is_refused(coco: CocoFolder) -> None:
    with pytest.raises(DatasetError, match="no effect"):
        read_layout(detect_layout(coco.root), seeded=SeededSplit())
