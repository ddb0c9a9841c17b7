"""Images are located inside their folder only, and decoded completely."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.workers.dataset_folders import write_image
from workers.data.images import InvalidImage, UnsafePath, inspect_image, resolve_image_path


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.jpg", "a/../../secret.jpg", "", ".", "a\0b.jpg"]
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePath):
        resolve_image_path(tmp_path, name)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").symlink_to(secret)

    with pytest.raises(UnsafePath, match="link"):
        resolve_image_path(tmp_path / "images", "a.jpg")


def test_a_link_that_goes_round_in_circles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "a.jpg")

    with pytest.raises(UnsafePath):
        resolve_image_path(tmp_path, "a.jpg")


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    image = write_image(tmp_path / "deep" / "real.jpg")
    (tmp_path / "a.jpg").symlink_to(image)

    assert resolve_image_path(tmp_path, "a.jpg") == image.resolve()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp", "a.tiff"])
def test_the_size_is_read(tmp_path: Path, name: str) -> None:
    assert inspect_image(write_image(tmp_path / name)).size == (40, 30)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_an_image_that_is_cut_short_is_unreadable(tmp_path: Path, name: str) -> None:
    image = write_image(tmp_path / name, size=(200, 200))
    image.write_bytes(image.read_bytes()[:-5000])

    with pytest.raises(InvalidImage):
        inspect_image(image)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff"], ids=repr)
def test_what_is_no_image_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)

    with pytest.raises(InvalidImage):
        inspect_image(tmp_path / "a.jpg")


def test_an_image_lying_on_its_side_has_the_size_that_the_trainer_sees(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    image = write_image(tmp_path / "a.jpg", exif=exif)

    assert inspect_image(image).size == (30, 40)
    assert np.asarray(cv2.imread(str(image))).shape == (40, 30, 3)
