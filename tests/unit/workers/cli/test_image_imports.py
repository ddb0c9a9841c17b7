"""The command `tandem-worker data import-images`: images without labels, checked as others are."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from configs.protocol.dataset_statistics import CONTACT_SHEET
from configs.protocol.image_hashes import IMAGE_HASHES
from configs.protocol.names import ExitCode
from configs.spec.references import DatasetFiles
from tests.support.training.digits import write_digits
from tests.support.workers.dataset_folders import write_image
from workers.cli.layout_imports import app
from workers.data.image_hashes import read_split_hashes
from workers.data.manifest import check_dataset, recompute_digest
from workers.data.resolve import resolve_dataset
from workers.errors import InvalidSpec


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two different images, one of them in a subfolder."""
    write_image(tmp_path / "photos" / "a.png", shade=10)
    write_image(tmp_path / "photos" / "street" / "b.png", shade=200)
    return tmp_path / "photos"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "datasets" / "street"


def import_images(folder: Path, out: Path, *options: object) -> Result:
    arguments = ("import-images", folder, "--out", out, "--name", "street", *options)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_all_images_become_train_without_classes_and_boxes(photos: Path, out: Path) -> None:
    (photos / "notes.txt").write_text("no image")

    result = import_images(photos, out)

    assert result.exit_code == 0, result.output
    manifest = check_dataset(out)
    assert (manifest.has_labels, manifest.classes) == (False, ())
    assert (manifest.train.num_images, manifest.val.num_images) == (2, 0)
    assert manifest.digest == recompute_digest(out, manifest)
    assert sorted(read_split_hashes(out, manifest, "train")) == ["a.png", "street/b.png"]
    assert "street, no labels" in result.output


def test_stored_hashes_are_those_of_the_files(photos: Path, out: Path) -> None:
    import_images(photos, out)
    manifest = check_dataset(out)
    stored = dict(read_split_hashes(out, manifest, "train"))

    (out / IMAGE_HASHES).unlink()

    assert read_split_hashes(out, manifest, "train") == stored


def test_damaged_images_and_copies_are_refused_or_dropped(photos: Path, out: Path) -> None:
    shutil.copyfile(photos / "a.png", photos / "copy.png")
    (photos / "damaged.png").write_bytes(b"\x89PNG")

    refused = import_images(photos, out)
    imported = import_images(photos, out, "--drop-bad")

    assert refused.exit_code == ExitCode.REFUSED
    assert "1 copy: an image with the content of an earlier one" in refused.output
    assert "it has the content of a.png" in refused.output
    assert "1 unreadable_image" in refused.output
    assert "--drop-bad loses 2 of 4 images." in refused.output
    assert imported.exit_code == 0, imported.output
    assert check_dataset(out).train.num_images == 2


def test_validation_images_of_another_dataset_are_left_out(
    photos: Path, out: Path, tmp_path: Path
) -> None:
    digits = write_digits(tmp_path / "digits", train=2, val=2)
    for number, file in enumerate(sorted((digits / "images" / "val").iterdir())):
        shutil.copyfile(file, photos / f"digit-{number}.png")

    result = import_images(photos, out, "--exclude-of", digits)

    assert result.exit_code == 0, result.output
    assert "Left out: 2 images" in result.output
    assert sorted(read_split_hashes(out, check_dataset(out), "train")) == ["a.png", "street/b.png"]
    assert json.loads((out / "import-report.json").read_text())["num_excluded"] == 2


@pytest.mark.parametrize("content", [None, b"\x89PNG"], ids=["no image", "no usable image"])
def test_a_folder_without_images_is_refused(
    tmp_path: Path, out: Path, content: bytes | None
) -> None:
    (tmp_path / "photos").mkdir()
    if content is not None:
        (tmp_path / "photos" / "a.png").write_bytes(content)

    result = import_images(tmp_path / "photos", out, "--drop-bad")

    assert result.exit_code == ExitCode.REFUSED
    assert "image" in result.output
    assert not out.exists()


def test_links_out_of_the_folder_need_an_option(photos: Path, out: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere.png", shade=77)
    (photos / "link.png").symlink_to(tmp_path / "elsewhere.png")

    assert import_images(photos, out).exit_code == ExitCode.REFUSED
    assert import_images(photos, out, "--follow-links").exit_code == 0


def test_show_draws_the_images_and_says_that_there_are_no_labels(photos: Path, out: Path) -> None:
    import_images(photos, out)

    result = CliRunner().invoke(app, ["show", str(out)])

    assert result.exit_code == 0, result.output
    assert "There are no labels" in result.output
    assert (out / CONTACT_SHEET).stat().st_size > 0


def test_what_needs_labels_refuses_them(photos: Path, out: Path) -> None:
    import_images(photos, out)

    with pytest.raises(InvalidSpec, match=r"^data\.dataset: street in .* without labels"):
        resolve_dataset(DatasetFiles(root=str(out)), field="data.dataset")


def test_images_that_look_like_validation_images_are_counted(
    photos: Path, out: Path, tmp_path: Path
) -> None:
    digits = write_digits(tmp_path / "digits", train=2, val=2)
    file = next((digits / "images" / "val").iterdir())
    with Image.open(file) as image:
        image.resize((80, 80)).save(photos / "smaller.png")

    result = import_images(photos, out, "--exclude-of", digits)

    assert (
        "Validation images of digits that look like an image here, which stays: 1" in result.output
    )
    assert f"first {file.name} like smaller.png" in result.output
    assert check_dataset(out).train.num_images == 3
