"""Images with the objects that the student misses."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.protocol.report import MissedImage
from tests.support.workers.report_inputs import make_missed_image
from workers.evaluation.drawing import COLORS
from workers.report.plots.images import MAX_PHOTOS, draw_photos


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1600, 1200), (480, 360)), ((96, 96), (320, 320)), ((400, 300), (400, 300))],
)
def test_images_are_resized_for_the_page(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")

    (photo,) = draw_photos([make_missed_image("a.png")], folder=tmp_path).photos

    assert Image.open(io.BytesIO(photo.jpeg)).size == expected


def test_missed_boxes_are_drawn_at_their_position(tmp_path: Path) -> None:
    Image.new("RGB", (480, 480)).save(tmp_path / "a.png")

    (photo,) = draw_photos([make_missed_image("a.png", boxes=1)], folder=tmp_path).photos

    pixels = np.asarray(Image.open(io.BytesIO(photo.jpeg))).astype(int)
    assert np.abs(pixels[60, 9:12].mean(axis=0) - COLORS["teacher"]).max() < 60
    assert pixels[300:].max() < 20


def test_the_number_of_drawn_images_is_limited(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")

    photos = draw_photos([make_missed_image("a.png")] * (MAX_PHOTOS + 3), folder=tmp_path)

    assert len(photos.photos) == MAX_PHOTOS
    assert len({photo.name for photo in photos.photos}) == MAX_PHOTOS


def test_a_file_that_is_missing_broken_or_elsewhere_is_named_and_not_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no image")
    Image.new("RGB", (64, 64)).save(tmp_path / "outside.png")
    names = ("gone.jpg", "broken.jpg", "../outside.png", str(tmp_path / "outside.png"), "a\0b")

    photos = draw_photos([make_missed_image(name) for name in names], folder=folder)

    assert photos.photos == ()
    assert photos.unreadable == names


def test_class_names_that_are_digits_cannot_be_mistaken_for_counts(tmp_path: Path) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    missed = [make_missed_image("a.png", class_name=name, boxes=1).objects[0] for name in "472"]
    image = MissedImage(file="a.png", objects=tuple(missed))

    (photo,) = draw_photos([image], folder=tmp_path).photos

    assert photo.caption == "a.png: 3 objects missed: “4”, “7” and “2”"


def test_a_caption_counts_missed_objects_by_class(tmp_path: Path) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "a.png")

    (photo,) = draw_photos([make_missed_image("a.png", class_name="dog")], folder=tmp_path).photos

    assert photo.caption == "a.png: 2 objects missed: “dog” 2 times"
