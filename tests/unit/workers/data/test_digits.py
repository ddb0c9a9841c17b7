"""The digits set: the same every time, honest about its parts, with boxes that fit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from workers.data.digits import (
    Array,
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
GREY = 127.0


@pytest.fixture(scope="module")
def material() -> DigitSources:
    return load_sources("train")


def on_grey(material: DigitSources) -> DigitSources:
    """The same digits on paper without any texture: what differs from grey is ink."""
    paper = np.full((250, 250, 3), GREY, dtype=np.float32)
    return DigitSources(material.digits, material.labels, (paper,))


def drawings(
    material: DigitSources, count: int, **changes: object
) -> list[tuple[Array, list[DrawnDigit]]]:
    recipe = DigitsRecipe(**changes)  # type: ignore[arg-type]
    images = (draw_image(material, recipe, split="train", index=index) for index in range(count))
    return [(picture, list(drawn)) for picture, drawn in images]


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.rglob("*.jpg"))}


def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    first = draw_split(tmp_path / "first", "train", SMALL)
    second = draw_split(tmp_path / "second", "train", SMALL)

    assert files(tmp_path / "first") == files(tmp_path / "second")
    assert first == second


def test_a_smaller_set_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    few = draw_split(tmp_path / "few", "train", SMALL)
    more = draw_split(tmp_path / "more", "train", DigitsRecipe(train=20, empty_share=0.25))

    assert files(tmp_path / "few").items() <= files(tmp_path / "more").items()
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


def test_a_box_is_tight_around_the_visible_ink(material: DigitSources) -> None:
    for picture, drawn in drawings(on_grey(material), 60, most_objects=1, empty_share=0.0):
        left, top, width, height = drawn[0].box
        ink = np.abs(picture.astype(float) - GREY).max(axis=2)
        rows, columns = np.nonzero(ink > 0.3 * ink.max())

        assert ink[:top].max(initial=0) <= 1 >= ink[:, :left].max(initial=0)
        assert ink[top + height :].max(initial=0) <= 1 >= ink[:, left + width :].max(initial=0)
        assert 0 <= rows.min() - top <= 1
        assert 0 <= columns.min() - left <= 1
        assert 0 <= top + height - 1 - rows.max() <= 1
        assert 0 <= left + width - 1 - columns.max() <= 1


def test_boxes_lie_in_the_image_and_have_the_asked_sizes(material: DigitSources) -> None:
    for _, drawn in drawings(material, 80, smallest=14, largest=72):
        for left, top, width, height in (one.box for one in drawn):
            assert left >= 0
            assert top >= 0
            assert left + width <= 160
            assert top + height <= 160
            assert 12 <= max(width, height) <= 80


def test_a_digit_is_hardly_put_onto_earlier_ones(material: DigitSources) -> None:
    for _, drawn in drawings(material, 80):
        taken = np.zeros((160, 160), dtype=bool)
        for left, top, width, height in (one.box for one in drawn):
            window = np.s_[top : top + height, left : left + width]
            assert taken[window].mean() <= 0.15
            taken[window] = True


def test_ink_differs_in_brightness_from_the_ground(material: DigitSources) -> None:
    for picture, drawn in drawings(on_grey(material), 60, most_objects=1, empty_share=0.0):
        left, top, width, height = drawn[0].box
        ink = picture[top : top + height, left : left + width].mean(axis=2) - GREY

        assert np.abs(ink).max() >= 20


def test_images_have_as_many_objects_as_asked(material: DigitSources) -> None:
    counts = {len(drawn) for _, drawn in drawings(material, 80, most_objects=3, empty_share=0.0)}

    assert counts == {1, 2, 3}


def test_the_asked_share_of_images_is_empty(material: DigitSources) -> None:
    drawn = drawings(material, 200, empty_share=0.3, most_objects=2)

    assert 40 <= sum(not objects for _, objects in drawn) <= 80


def test_annotations_name_the_images_that_were_written(tmp_path: Path) -> None:
    part = draw_split(tmp_path, "val", SMALL)

    for image in part.document["images"]:
        with Image.open(tmp_path / "images" / "val" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (160, 160)
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
