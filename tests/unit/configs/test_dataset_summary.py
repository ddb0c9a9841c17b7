"""The tables that describe a dataset."""

from configs.catalog import spec_from_preset
from configs.dataset_summary import (
    COMMON_IMAGE_SIZES,
    MAX_LISTED_CLASSES,
    build_summary_tables,
    describe_crowding,
    describe_duplicates,
    format_share,
    list_image_sizes,
)
from configs.protocol.dataset_statistics import NearDuplicate
from tests.support.dataset_statistics import make_part, make_statistics


def test_a_dataset_of_a_preset_is_shown_at_its_image_size() -> None:
    assert list_image_sizes("bccd") == [spec_from_preset("bccd/bckd").data.image_size]
    assert list_image_sizes("no-such") == list(COMMON_IMAGE_SIZES)


def test_of_many_classes_the_most_and_the_least_frequent_are_listed() -> None:
    count = 100
    numbers = tuple(range(count))
    part = make_part(class_objects=numbers, class_images=numbers)
    statistics = make_statistics(classes=tuple(f"c{i}" for i in numbers), train=part, val=part)

    rows = build_summary_tables(statistics, [])[1].rows

    assert len(rows) == MAX_LISTED_CLASSES + 1
    assert rows[0][0] == "c99"
    assert rows[-1][0] == "c0"
    assert rows[MAX_LISTED_CLASSES // 2][0] == "60 more"


def test_a_small_share_is_not_shown_as_none() -> None:
    assert [format_share(share) for share in (0.0, 0.001, 0.31)] == ["0 %", "< 1 %", "31 %"]


def test_near_duplicates_are_named() -> None:
    pair = NearDuplicate(val="b.jpg", train="a.jpg", distance=3)
    statistics = make_statistics(num_near_duplicates=1, near_duplicates=(pair,))

    text = "\n".join(describe_duplicates(statistics))

    assert "1 of 200 validation images" in text
    assert "b.jpg (val) and a.jpg (train)" in text
    assert describe_duplicates(make_statistics()) == [
        "No validation image looks like a training image."
    ]


def test_crowded_images_are_counted_over_both_parts() -> None:
    crowded = make_part(num_crowded_images=2, max_objects=140)

    assert describe_crowding(make_statistics(train=crowded, val=crowded)).startswith("4 images")
    assert describe_crowding(make_statistics()) == ""
