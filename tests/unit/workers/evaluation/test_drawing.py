"""Drawn boxes and captions: at any size, in crowds, at the edge, and without boxes."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from workers.evaluation.drawing import COLORS, Panel, draw_side_by_side, stack_vertically

NAMES = ("cat", "a class with a long name")
GREY = 120


def make_image(width: int, height: int) -> NDArray[Any]:
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def make_panel(title: str, *boxes: tuple[float, float, float, float]) -> Panel:
    scores = None if title == "truth" else np.linspace(0.9, 0.3, len(boxes))
    labels = np.arange(len(boxes)) % len(NAMES)
    return Panel(title, COLORS[title], np.array(boxes).reshape(-1, 4), labels, scores)


def find_pixels(picture: Image.Image, title: str) -> int:
    return int((np.asarray(picture) == COLORS[title]).all(axis=-1).sum())


@pytest.mark.parametrize(
    ("size", "panel_size"),
    [((160, 160), (480, 480)), ((640, 480), (640, 480)), ((1333, 800), (720, 432))],
    ids=["magnified", "as it is", "shrunk"],
)
def test_panels_stand_side_by_side_at_a_legible_size(
    size: tuple[int, int], panel_size: tuple[int, int]
) -> None:
    panels = [make_panel(title, (10, 10, 50, 60)) for title in COLORS]

    three = draw_side_by_side(make_image(*size), panels, class_names=NAMES)
    two_boxes = draw_side_by_side(make_image(*size), panels[::2], class_names=NAMES)

    assert three.width > 3 * panel_size[0] > two_boxes.width > 2 * panel_size[0]
    assert three.height == two_boxes.height > panel_size[1]
    assert all(find_pixels(three, title) > 500 for title in COLORS)
    assert find_pixels(two_boxes, "teacher") == 0


def test_a_box_is_drawn_where_it_is() -> None:
    panel = make_panel("truth", (40, 60, 120, 130))

    picture = np.asarray(draw_side_by_side(make_image(160, 160), [panel], class_names=NAMES))

    header = picture.shape[0] - 480
    is_blue = (picture[header:] == COLORS["truth"]).all(axis=-1)
    assert is_blue[3 * 60 : 3 * 130, 3 * 40].all()
    assert is_blue[3 * 130, 3 * 40 : 3 * 120].all()
    assert not is_blue[3 * 70 : 3 * 120, 3 * 50 : 3 * 110].any()


def test_nothing_found_is_a_clean_image() -> None:
    picture = draw_side_by_side(make_image(160, 160), [make_panel("student")], class_names=NAMES)

    assert (np.asarray(picture)[-480:, :480] == GREY).all()


def test_captions_stay_inside_at_every_edge() -> None:
    """Captions at the edge have as many pixels as in the middle of the image."""
    middle = count_caption_pixels((70.0, 70.0, 90.0, 90.0))

    for x, y in ((0, 0), (140, 0), (0, 140), (140, 140)):
        assert count_caption_pixels((x, y, x + 20, y + 20)) >= 0.9 * middle


def test_boxes_that_lie_on_each_other_have_captions_of_their_own() -> None:
    box = (60.0, 60.0, 110.0, 110.0)

    one_box = find_pixels(draw_picture(make_panel("student", box)), "student")
    two_boxes = find_pixels(draw_picture(make_panel("student", box, box)), "student")

    assert two_boxes - one_box > 0.8 * count_caption_pixels(box)


def test_boxes_beyond_the_image_and_without_an_area_are_drawn_as_far_as_possible() -> None:
    panel = make_panel("student", (-50, -50, 500, 500), (30, 30, 30, 30), (90, 90, 80, 80))

    assert draw_picture(panel).width == 480


def test_the_image_itself_is_not_changed() -> None:
    image = make_image(640, 480)

    draw_side_by_side(image, [make_panel("truth", (10, 10, 600, 400))], class_names=NAMES)

    assert (image == GREY).all()


def test_a_sheet_has_all_pictures_under_each_other() -> None:
    wide = draw_side_by_side(make_image(1333, 800), [make_panel("truth")] * 2, class_names=NAMES)
    tall = draw_side_by_side(make_image(100, 400), [make_panel("truth")] * 3, class_names=NAMES)

    sheet = stack_vertically([wide, tall])

    assert sheet.width >= max(wide.width, tall.width)
    assert sheet.height >= wide.height + tall.height


def draw_picture(panel: Panel) -> Image.Image:
    return draw_side_by_side(make_image(160, 160), [panel], class_names=NAMES)


def count_caption_pixels(box: tuple[float, float, float, float]) -> int:
    """The number of pixels that a longer class name adds to a box."""
    panel = make_panel("student", box)
    named = draw_side_by_side(make_image(160, 160), [panel], class_names=(NAMES[1], ""))
    nameless = draw_side_by_side(make_image(160, 160), [panel], class_names=("", ""))
    return find_pixels(named, "student") - find_pixels(nameless, "student")
