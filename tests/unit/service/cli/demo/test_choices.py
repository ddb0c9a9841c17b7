"""What `tandem distill` chooses for a dataset."""

import pytest

from configs.catalog import UnknownPreset
from configs.protocol.dataset_statistics import DatasetStatistics, RelativeSizes
from service.cli.demo.choices import (
    DEFAULT_PRESET,
    choose_epochs,
    choose_image_size,
    choose_preset,
    suggest_name,
)
from service.cli.errors import CliError
from tests.support.dataset_statistics import make_part, make_statistics


def make_sizes(*, image_ratio: float, size_bin: int) -> DatasetStatistics:
    """All objects have the same size, in images of one shape."""
    sizes = (RelativeSizes(image_ratio=image_ratio, counts={size_bin: 400}),)
    part = make_part(relative_sizes=sizes)
    return make_statistics(train=part, val=part)


@pytest.mark.parametrize(
    ("dataset", "requested", "distilled", "teacher"),
    [
        ("photos", None, DEFAULT_PRESET, "bccd/teacher"),
        ("digits", None, "digits/bckd", "digits/teacher"),
        ("photos", "digits/bckd", "digits/bckd", "digits/teacher"),
        ("photos", "coco/bckd_r18_from_r101", "coco/bckd_r18_from_r101", "coco/teacher_r101"),
    ],
)
def test_the_preset_is_the_requested_one_or_follows_the_dataset(
    dataset: str, requested: str | None, distilled: str, teacher: str
) -> None:
    choice = choose_preset(dataset, requested)

    assert (choice.distilled, choice.teacher) == (distilled, teacher)
    assert choice.is_for_dataset is (requested is not None or dataset == "digits")


def test_a_preset_without_a_teacher_is_answered_with_those_that_have_one() -> None:
    with pytest.raises(CliError) as caught:
        choose_preset("photos", "digits/baseline")

    assert "nothing to distill" in caught.value.error_message.summary
    assert "digits/bckd" in caught.value.error_message.advice[0]
    with pytest.raises(UnknownPreset):
        choose_preset("photos", "digits/no-such")


def test_images_keep_their_shape_at_the_size_of_the_preset() -> None:
    choice = choose_preset("photos", None)

    wide = choose_image_size(choice, make_sizes(image_ratio=0.56, size_bin=-16))
    cells = choose_image_size(choice, make_sizes(image_ratio=0.75, size_bin=-16))

    assert wide is not None
    assert wide.size == (320, 176)
    assert cells is not None
    assert cells.size == choice.spec.data.image_size


def test_images_are_larger_where_objects_would_be_tiny() -> None:
    choice = choose_preset("photos", None)

    # 1/45 of the longest edge: 7.1 px of 320, 14.2 px of 640.
    larger = choose_image_size(choice, make_sizes(image_ratio=0.75, size_bin=-44))
    # 1/1450 of it: tiny at any size that is considered.
    largest = choose_image_size(choice, make_sizes(image_ratio=0.75, size_bin=-84))

    assert larger is not None
    assert larger.size == (640, 480)
    assert "at 320 x 240 it would be 100 %" in larger.reason
    assert largest is not None
    assert largest.size == (1280, 960)


def test_a_preset_for_the_dataset_keeps_its_image_size() -> None:
    statistics = make_sizes(image_ratio=0.5, size_bin=-44)

    assert choose_image_size(choose_preset("bccd", None), statistics) is None
    assert choose_image_size(choose_preset("photos", "digits/bckd"), statistics) is None
    assert choose_image_size(choose_preset("photos", None), None) is None


@pytest.mark.parametrize(("num_images", "epochs"), [(32, 38), (4, 100), (200, None), (9000, None)])
def test_few_images_train_for_more_epochs(num_images: int, epochs: int | None) -> None:
    statistics = make_statistics(train=make_part(num_images=num_images))

    assert choose_epochs(choose_preset("photos", None), statistics) == epochs
    assert choose_epochs(choose_preset("bccd", None), statistics) is None


def test_names_come_from_folders() -> None:
    names = [suggest_name(text) for text in ("photos", "My Photos (2026)", "--", "x" * 90)]

    assert names == ["photos", "my-photos-2026", "own-data", "x" * 63]
