"""The manifest: independent of the folder's path, and verified against the files."""

import json
import shutil
from pathlib import Path

import pytest

from configs.protocol.failure import FailureReason
from configs.spec.dataset import MANIFEST, DatasetManifest
from workers.data.digits import CLASSES, DigitsRecipe, draw_split
from workers.data.manifest import (
    SPLITS,
    Origin,
    check_dataset,
    read_manifest,
    recompute_digest,
    write_manifest,
)
from workers.errors import DatasetError

RECIPE = DigitsRecipe(train=3, val=2, empty_share=0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "digits")
    return tmp_path / "digits"


def make(root: Path) -> DatasetManifest:
    parts = {part: draw_split(root, part, RECIPE) for part in SPLITS}
    return write_manifest(
        root, name="digits", classes=CLASSES, contents=parts, origin=Origin("made", "free")
    )


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    manifest = make(tmp_path)

    assert read_manifest(tmp_path) == manifest == check_dataset(tmp_path, digest=manifest.digest)
    assert (manifest.train.num_images, manifest.val.num_images) == (3, 2)


def test_the_digest_does_not_depend_on_the_place_nor_on_links(root: Path, tmp_path: Path) -> None:
    linked, copied = tmp_path / "other" / "linked", tmp_path / "copied"
    shutil.copytree(
        root, linked, copy_function=lambda source, target: Path(target).hardlink_to(source)
    )
    shutil.copytree(root, copied)

    digests = {recompute_digest(path, read_manifest(path)) for path in (root, linked, copied)}

    assert digests == {read_manifest(root).digest}


def test_another_image_gives_another_digest(root: Path) -> None:
    first, second, *_ = sorted((root / "images" / "train").iterdir())
    first.write_bytes(second.read_bytes())

    assert recompute_digest(root, read_manifest(root)) != read_manifest(root).digest


def test_images_in_another_order_give_another_digest(tmp_path: Path) -> None:
    make(tmp_path)
    parts = {part: draw_split(tmp_path, part, RECIPE) for part in SPLITS}
    for entries in parts["train"].document["images"], parts["train"].document["annotations"]:
        entries.reverse()
    parts["train"] = type(parts["train"])(
        parts["train"].document, parts["train"].image_hashes[::-1]
    )

    reversed_manifest = write_manifest(
        tmp_path / "turned", name="digits", classes=CLASSES, contents=parts, origin=Origin("", "")
    )

    assert reversed_manifest.digest != read_manifest(tmp_path).digest


def test_changed_annotations_are_noticed(root: Path) -> None:
    change(root / "annotations" / "val.json", info="one more field")

    with pytest.raises(DatasetError, match=r"val.json was changed") as exc_info:
        check_dataset(root)

    assert exc_info.value.reason is FailureReason.DATASET_ERROR


def test_another_dataset_than_meant_is_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match="not the expected one"):
        check_dataset(root, digest="0" * 64)


def test_missing_annotations_are_a_dataset_error(root: Path) -> None:
    (root / "annotations" / "train.json").unlink()

    with pytest.raises(DatasetError, match=r"train.json cannot be read"):
        check_dataset(root)


def test_missing_images_are_a_dataset_error(root: Path) -> None:
    shutil.rmtree(root / "images" / "val")

    with pytest.raises(DatasetError, match="missing"):
        check_dataset(root)


def test_a_folder_without_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset"):
        read_manifest(tmp_path)


def test_a_manifest_with_an_unknown_field_is_refused(root: Path) -> None:
    change(root / MANIFEST, colour="red")

    with pytest.raises(DatasetError, match="colour"):
        read_manifest(root)


@pytest.mark.parametrize("path", ["/etc/passwd", "../elsewhere.json"])
def test_a_manifest_that_points_out_of_its_folder_is_refused(root: Path, path: str) -> None:
    split = json.loads((root / MANIFEST).read_text())["train"]
    change(root / MANIFEST, train=split | {"annotations": path})

    with pytest.raises(DatasetError, match="outside"):
        read_manifest(root)
