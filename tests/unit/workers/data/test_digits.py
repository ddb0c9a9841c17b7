"""The digits dataset: reproducible, with disjoint splits and tight boxes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from workers.data.digits import (
    DigitSources,
    DigitsRecipe,
    DrawnDigit,
    draw_image,
    draw_split,
    load_sources,
    select_digits,
)
from workers.data.manifest import SPLITS, SplitName

SMALL = DigitsRecipe(train=12, val=4, empty_share=0.25)
GRAY = 127.0


@pytest.fixture(scope="module")
def sources() -> DigitSources:
    return load_sources("train")


def draw_on_gray(sources: DigitSources) -> DigitSources:
    """The same digits on a uniform background: every pixel that is not gray is ink."""
    paper = np.full((250, 250, 3), GRAY, dtype=np.float32)
    return DigitSources(sources.digits, sources.labels, (paper,))


def read_drawings(
    sources: DigitSources, count: int, **changes: object
) -> list[tuple[NDArray[Any], list[DrawnDigit]]]:
    recipe = DigitsRecipe(**changes)  # type: ignore[arg-type]
    images = (draw_image(sources, recipe, split="train", index=index) for index in range(count))
    return [(image, list(digits)) for image, digits in images]


def list_files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.rglob("*.jpg"))}


def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    first = draw_split(tmp_path / "first", "train", SMALL)
    second = draw_split(tmp_path / "second", "train", SMALL)

    assert list_files(tmp_path / "first") == list_files(tmp_path / "second")
    assert first == second


def test_a_smaller_set_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    few = draw_split(tmp_path / "few", "train", SMALL)
    more = draw_split(tmp_path / "more", "train", DigitsRecipe(train=20, empty_share=0.25))

    assert list_files(tmp_path / "few").items() <= list_files(tmp_path / "more").items()
    assert few.document["images"] == more.document["images"][:12]
    assert (
        few.document["annotations"]
        == more.document["annotations"][: len(few.document["annotations"])]
    )
    assert few.image_hashes == more.image_hashes[:12]


def test_another_seed_gives_other_images(tmp_path: Path) -> None:
    first = draw_split(tmp_path / "first", "val", SMALL)
    other = draw_split(tmp_path / "other", "val", DigitsRecipe(val=4, empty_share=0.25, seed=1))

    assert not set(first.image_hashes) & set(other.image_hashes)


def test_train_and_val_share_no_digit() -> None:
    labels = load_digits().target

    train, val = select_digits("train", labels), select_digits("val", labels)

    assert not set(train) & set(val)
    assert sorted([*train, *val]) == list(range(1797))


@pytest.mark.parametrize("part", SPLITS)
def test_both_parts_have_every_class_in_like_numbers(part: SplitName) -> None:
    counts = np.bincount(load_sources(part).labels, minlength=10)

    assert counts.min() > 0.9 * counts.max()


def test_train_and_val_share_no_part_of_a_photograph() -> None:
    for train, val in zip(
        load_sources("train").photographs, load_sources("val").photographs, strict=True
    ):
        assert train.shape[1] + val.shape[1] == 640
        # No column of one is a column of the other.
        columns = {train[:, at].tobytes() for at in range(train.shape[1])}
        assert not any(val[:, at].tobytes() in columns for at in range(val.shape[1]))


def test_a_box_is_tight_around_the_visible_ink(sources: DigitSources) -> None:
    for image, digits in read_drawings(draw_on_gray(sources), 60, most_objects=1, empty_share=0.0):
        x, y, width, height = digits[0].box
        ink = np.abs(image.astype(float) - GRAY).max(axis=2)
        rows, columns = np.nonzero(ink > 0.3 * ink.max())

        assert ink[:y].max(initial=0) <= 1 >= ink[:, :x].max(initial=0)
        assert ink[y + height :].max(initial=0) <= 1 >= ink[:, x + width :].max(initial=0)
        assert 0 <= rows.min() - y <= 1
        assert 0 <= columns.min() - x <= 1
        assert 0 <= y + height - 1 - rows.max() <= 1
        assert 0 <= x + width - 1 - columns.max() <= 1


def test_boxes_lie_in_the_image_and_have_the_requested_sizes(sources: DigitSources) -> None:
    for _, digits in read_drawings(sources, 80, smallest=14, largest=72):
        for x, y, width, height in (digit.box for digit in digits):
            assert x >= 0
            assert y >= 0
            assert x + width <= 160
            assert y + height <= 160
            assert 12 <= max(width, height) <= 80


def test_digits_hardly_overlap(sources: DigitSources) -> None:
    for _, digits in read_drawings(sources, 80):
        covered = np.zeros((160, 160), dtype=bool)
        for x, y, width, height in (digit.box for digit in digits):
            window = np.s_[y : y + height, x : x + width]
            assert covered[window].mean() <= 0.15
            covered[window] = True


def test_ink_contrasts_with_the_background(sources: DigitSources) -> None:
    for image, digits in read_drawings(draw_on_gray(sources), 60, most_objects=1, empty_share=0.0):
        x, y, width, height = digits[0].box
        ink = image[y : y + height, x : x + width].mean(axis=2) - GRAY

        assert np.abs(ink).max() >= 20


def test_images_have_the_requested_number_of_objects(sources: DigitSources) -> None:
    counts = {
        len(digits) for _, digits in read_drawings(sources, 80, most_objects=3, empty_share=0.0)
    }

    assert counts == {1, 2, 3}


def test_the_requested_fraction_of_images_is_empty(sources: DigitSources) -> None:
    digits = read_drawings(sources, 200, empty_share=0.3, most_objects=2)

    assert 40 <= sum(not objects for _, objects in digits) <= 80


def test_annotations_name_the_images_that_were_written(tmp_path: Path) -> None:
    part = draw_split(tmp_path, "val", SMALL)

    for image in part.document["images"]:
        with Image.open(tmp_path / "images" / "val" / image["file_name"]) as file:
            assert file.size == (image["width"], image["height"]) == (160, 160)
    assert {box["image_id"] for box in part.document["annotations"]} <= {1, 2, 3, 4}
    assert part.document["annotations"][0]["id"] == 1


@pytest.mark.parametrize(
    "sizes",
    [{"smallest": 40, "largest": 20}, {"largest": 150}, {"smallest": 4}],
    ids=["reversed", "larger than the image", "smaller than its cells"],
)
def test_sizes_that_cannot_be_drawn_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="digit"):
        DigitsRecipe(**sizes)
