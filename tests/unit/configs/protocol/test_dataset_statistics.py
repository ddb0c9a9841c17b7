"""Sizes of objects after resizing, from the stored histogram."""

import pytest

from configs.protocol.dataset_statistics import RelativeSizes, get_size_bin
from tests.support.dataset_statistics import make_part


def test_the_share_below_a_size_follows_the_image_size() -> None:
    # Half of the objects are 1/64 of their image's longest edge, the others a quarter.
    sizes = RelativeSizes(image_ratio=1.0, counts={get_size_bin(1 / 64): 200, -16: 200})
    part = make_part(relative_sizes=(sizes,))

    assert part.share_below(8, image_size=(320, 320)) == 0.5
    assert part.share_below(8, image_size=(1280, 1280)) == 0.0


def test_the_shortest_edge_limits_wide_image_sizes() -> None:
    """As `Resize` with `keep_ratio`: a square image becomes 800 x 800 at 1333 x 800."""
    square = make_part(relative_sizes=(RelativeSizes(image_ratio=1.0, counts={-48: 400}),))
    wide = make_part(relative_sizes=(RelativeSizes(image_ratio=0.5, counts={-48: 400}),))

    # 1/64 of the longest edge: 12.5 px of 800, 20.8 px of 1333.
    assert square.share_below(16, image_size=(1333, 800)) == 1.0
    assert wide.share_below(16, image_size=(1333, 800)) == 0.0


def test_objects_within_a_bin_are_shared_out() -> None:
    part = make_part(relative_sizes=(RelativeSizes(image_ratio=1.0, counts={-48: 400}),))

    middle = 320 * 2 ** (-47.5 / 8)

    assert part.share_below(middle, image_size=(320, 320)) == pytest.approx(0.5)


def test_a_part_without_objects_has_no_share() -> None:
    part = make_part(num_objects=0, relative_sizes=())

    assert part.share_below(8, image_size=(320, 320)) == 0.0
