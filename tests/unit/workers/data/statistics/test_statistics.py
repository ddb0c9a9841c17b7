"""Counts of objects, near duplicates, and the file that keeps them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from configs.protocol.dataset_statistics import STATISTICS, DatasetStatistics, get_size_bin
from configs.spec.dataset import DatasetManifest
from workers.data.manifest import (
    SPLITS,
    CocoBox,
    CocoDocument,
    Origin,
    SplitContents,
    SplitName,
    recompute_digest,
    write_manifest,
)
from workers.data.statistics.contact_sheet import group_boxes, select_images, write_contact_sheet
from workers.data.statistics.dataset import read_statistics, write_statistics
from workers.data.statistics.parts import count_part
from workers.errors import DatasetError

SIZE = (320, 240)
SCENES = ("forest", "beach", "street", "harbor")


def make_scene(name: str) -> Image.Image:
    """A smooth random picture; each name has its own."""
    generator = np.random.default_rng(sum(map(ord, name)))
    coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)


def make_box(identifier: int, image_id: int, **changes: Any) -> CocoBox:
    box: Any = {
        "id": identifier,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [10, 10, 20, 20],
        "area": 400.0,
        "iscrowd": 0,
    }
    return box | changes


def make_document(names: list[str], boxes: list[CocoBox]) -> CocoDocument:
    return {
        "images": [
            {"id": index, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
            for index, name in enumerate(names, start=1)
        ],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def write_scenes(root: Path, pictures: dict[SplitName, dict[str, Image.Image]]) -> DatasetManifest:
    """A dataset with these pictures, each with one cat."""
    contents = {}
    for split in SPLITS:
        folder = root / "images" / split
        folder.mkdir(parents=True)
        names = list(pictures[split])
        for name, picture in pictures[split].items():
            picture.save(folder / name)
        boxes = [make_box(index, index) for index in range(1, len(names) + 1)]
        hashes = tuple(f"{index:064x}" for index in range(len(names)))
        contents[split] = SplitContents(make_document(names, boxes), hashes)
    return write_manifest(
        root,
        name="scenes",
        classes=("cat", "dog"),
        contents=contents,
        origin=Origin("made", "none"),
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "scenes"


@pytest.fixture
def manifest(root: Path) -> DatasetManifest:
    train = {f"{name}.png": make_scene(name) for name in SCENES}
    return write_scenes(root, {"train": train, "val": {"city.png": make_scene("city")}})


def test_objects_are_counted_by_class_size_and_shape() -> None:
    boxes = [
        make_box(1, 1),
        make_box(2, 1, bbox=[0, 0, 100, 20], area=2000.0),
        make_box(3, 2, category_id=2, bbox=[0, 0, 100, 200], area=9216.0),
        make_box(4, 2, bbox=[0, 0, 300, 200], iscrowd=1),
    ]

    part = count_part(make_document(["a.png", "b.png", "c.png"], boxes))

    assert (part.num_images, part.num_objects, part.num_empty_images) == (3, 3, 1)
    assert part.class_objects == (2, 1)
    assert part.class_images == (1, 1)
    assert (part.sizes.small, part.sizes.medium, part.sizes.large) == (1, 1, 1)
    assert part.aspect_ratios == (0, 0, 1, 1, 0, 0, 1)
    assert (part.max_objects, part.busiest_image) == (2, "a.png")
    assert part.mean_objects == 1.0
    assert part.relative_sizes[0].image_ratio == 0.75
    assert part.relative_sizes[0].counts[get_size_bin(20 / 320)] == 1


def test_an_image_with_more_objects_than_a_detector_reports_is_crowded() -> None:
    boxes = [make_box(index, 1) for index in range(1, 102)] + [make_box(999, 2)]

    part = count_part(make_document(["a.png", "b.png"], boxes))

    assert (part.num_crowded_images, part.max_objects) == (1, 101)


COPIES = {
    "compressed": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
    "smaller": lambda picture: picture.resize((160, 120)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_changed_copy_of_a_training_image_is_found_in_val(root: Path, change: Any) -> None:
    train = {f"{name}.png": make_scene(name) for name in SCENES}
    val = {"other.png": make_scene("city"), "copy.png": change(make_scene("beach"))}
    manifest = write_scenes(root, {"train": train, "val": val})

    statistics = write_statistics(root, manifest)

    assert statistics.num_near_duplicates == 1
    pair = statistics.near_duplicates[0]
    assert (pair.val, pair.train) == ("copy.png", "beach.png")


def test_statistics_are_stored_beside_the_dataset_and_leave_its_digest_alone(
    root: Path, manifest: DatasetManifest
) -> None:
    before = recompute_digest(root, manifest)
    images: list[None] = []

    written = write_statistics(root, manifest, on_image=lambda: images.append(None))

    assert len(images) == 5
    assert written.num_near_duplicates == 0
    assert read_statistics(root, manifest) == written
    assert recompute_digest(root, manifest) == before


def test_statistics_of_other_data_and_damaged_ones_count_as_missing(
    root: Path, manifest: DatasetManifest
) -> None:
    assert read_statistics(root, manifest) is None
    written = write_statistics(root, manifest)

    other = manifest.model_copy(update={"digest": "f" * 64})
    assert read_statistics(root, other) is None
    (root / STATISTICS).write_text(written.model_dump_json()[:-9], encoding="utf-8")
    assert read_statistics(root, manifest) is None


def test_a_missing_image_is_named(root: Path, manifest: DatasetManifest) -> None:
    (root / "images" / "val" / "city.png").unlink()

    with pytest.raises(DatasetError, match=r"city\.png cannot be read"):
        write_statistics(root, manifest)
    with pytest.raises(DatasetError, match=r"city\.png cannot be read"):
        write_contact_sheet(root, manifest, root / "sheet.jpg")


def test_statistics_that_cannot_be_stored_say_who_can(
    root: Path, manifest: DatasetManifest
) -> None:
    (root / STATISTICS).mkdir()

    with pytest.raises(DatasetError, match="Run the command as the user who imported"):
        write_statistics(root, manifest)


def test_the_file_is_what_the_service_reads(root: Path, manifest: DatasetManifest) -> None:
    written = write_statistics(root, manifest)

    document = json.loads((root / STATISTICS).read_text(encoding="utf-8"))

    assert DatasetStatistics.model_validate(document) == written
    assert document["dataset_digest"] == manifest.digest


def test_the_contact_sheet_shows_each_class_and_the_busiest_image() -> None:
    names = [f"{index}.png" for index in range(100)]
    boxes = [make_box(index, index) for index in range(1, 101)]
    boxes += [make_box(201, 37, category_id=2), make_box(202, 58), make_box(203, 58)]
    document = make_document(names, boxes)

    chosen = [image["id"] for image in select_images(document, group_boxes(document))]

    assert len(chosen) == 12
    assert {1, 37, 58} <= set(chosen)
    assert chosen == sorted(chosen)


def test_the_contact_sheet_draws_boxes_in_the_color_of_the_legend(
    root: Path, manifest: DatasetManifest
) -> None:
    write_contact_sheet(root, manifest, root / "sheet.png")

    with Image.open(root / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    red = (pixels == (0xE6, 0x19, 0x4B)).all(axis=-1)
    assert red[8:20, 8:20].all()
    assert red[30:].sum() > 100
