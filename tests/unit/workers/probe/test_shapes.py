"""Size of the largest batch of a run, from the sizes of its images."""

from types import SimpleNamespace

import pytest

from configs.spec.data import Data
from workers.probe.shapes import largest_edges

LANDSCAPE, SQUARE, PORTRAIT = (640, 480), (500, 500), (300, 600)


def find_edges(*sizes: tuple[int, int], **data: object) -> tuple[int, int]:
    dataset = SimpleNamespace(
        data_infos=[{"width": width, "height": height} for width, height in sizes],
        flag=[int(width > height) for width, height in sizes],
    )
    fields = {"dataset": {"root": "/data"}, "batch_size": 2, **data}
    return largest_edges(dataset, Data.model_validate(fields), divisor=32)


@pytest.mark.parametrize(
    ("sizes", "data", "expected"),
    [
        ([LANDSCAPE], {}, (1088, 800)),
        ([(100, 75), LANDSCAPE], {}, (1088, 800)),
        ([SQUARE], {}, (800, 800)),
        ([LANDSCAPE, SQUARE], {}, (1088, 800)),
        ([LANDSCAPE], {"multi_scale": [480, 640]}, (864, 640)),
        ([LANDSCAPE], {"image_size": [512, 512], "multi_scale": [256, 512]}, (512, 384)),
        ([LANDSCAPE], {"image_size": [100, 100]}, (128, 96)),
    ],
)
def test_the_largest_batch_is_that_of_the_largest_image_padded(
    sizes: list[tuple[int, int]], data: dict[str, object], expected: tuple[int, int]
) -> None:
    assert find_edges(*sizes, **data) == expected


def test_a_batch_is_as_high_as_its_highest_image_and_as_wide_as_its_widest() -> None:
    assert find_edges(PORTRAIT) == (1344, 672)
    assert find_edges(PORTRAIT, SQUARE) == (1344, 800)


def test_images_of_different_orientations_are_never_in_one_batch() -> None:
    assert find_edges(PORTRAIT, LANDSCAPE) == (1344, 672)
