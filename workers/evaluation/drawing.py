"""Validation images with true, teacher's and student's boxes side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SMALLEST_SIDE, _LARGEST_SIDE = 480, 720
"""Limits of a panel's longer side, in pixels: tiny images are magnified, huge ones shrunk."""

_NARROWEST = 210
"""Pixels that a panel's title needs."""

_HEADER = 32
_GAP = 12
_MARGIN = 12
_INK = (34, 34, 34)
_PAPER = (255, 255, 255)
COLORS = {"truth": (0, 114, 178), "teacher": (230, 159, 0), "student": (204, 51, 119)}
"""Told apart by colour-blind people too (Okabe and Ito, 2008)."""

Array = np.ndarray[Any, np.dtype[Any]]
Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the panel."""


@dataclass(frozen=True)
class Panel:
    """One detector's view, or the truth: boxes (N, 4) in pixels, class indices, scores."""

    title: str
    color: Color
    boxes_N4: Array
    labels_N: Array
    scores_N: Array | None = None


def draw_side_by_side(
    image_HW3: Array, panels: Sequence[Panel], *, class_names: Sequence[str]
) -> Image.Image:
    """The image once per panel, in RGB, with that panel's boxes on it."""
    longest = max(image_HW3.shape[:2])
    scale = min(max(longest, _SMALLEST_SIDE), _LARGEST_SIDE) / longest
    height, width = (max(1, round(side * scale)) for side in image_HW3.shape[:2])
    scaled = Image.fromarray(image_HW3).resize((width, height), Image.Resampling.BICUBIC)
    column = max(width, _NARROWEST)
    sheet = Image.new("RGB", (len(panels) * (column + _GAP) - _GAP, height + _HEADER), _PAPER)
    for index, panel in enumerate(panels):
        left = index * (column + _GAP)
        _draw_header(sheet, panel, left=left)
        drawn = scaled.copy()
        draw_boxes(drawn, panel, scale=scale, class_names=class_names)
        sheet.paste(drawn, (left, _HEADER))
    return sheet


def draw_boxes(
    picture: Image.Image, panel: Panel, *, scale: float, class_names: Sequence[str]
) -> None:
    """Draw a panel's boxes on the image, which is `scale` times as large as they mean it.

    All boxes first, then all captions, so that no box runs through a caption.
    """
    pen = ImageDraw.Draw(picture)
    order = _by_confidence(panel)
    boxes = [_rectangle(panel.boxes_N4[index], scale=scale) for index in order]
    for left, top, right, bottom in reversed(boxes):
        # The white line outside makes the colour stand out on dark images as well.
        pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), outline=_PAPER, width=1)
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=panel.color, width=3)
    taken: list[Rectangle] = []
    for index, box in zip(order, boxes, strict=True):
        caption = class_names[int(panel.labels_N[index])]
        if panel.scores_N is not None:
            caption += f" {panel.scores_N[index]:.2f}"
        taken.append(_draw_caption(picture, caption, box, colour=panel.color, taken=taken))


def stack_vertically(pictures: Sequence[Image.Image]) -> Image.Image:
    """All pictures under each other."""
    width = max(picture.width for picture in pictures) + 2 * _MARGIN
    height = sum(picture.height + _MARGIN for picture in pictures) + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    top = _MARGIN
    for picture in pictures:
        sheet.paste(picture, (_MARGIN, top))
        top += picture.height + _MARGIN
    return sheet


def _draw_header(sheet: Image.Image, panel: Panel, *, left: int) -> None:
    pen = ImageDraw.Draw(sheet)
    number = len(panel.boxes_N4)
    middle = _HEADER // 2 - 1
    pen.rectangle((left, middle - 7, left + 14, middle + 7), fill=panel.color)
    count = "nothing" if number == 0 else "1 box" if number == 1 else f"{number} boxes"
    pen.text((left + 23, middle), f"{panel.title}: {count}", _INK, _font(18), anchor="lm")


def _by_confidence(panel: Panel) -> list[int]:
    """The most confident first: they get the best places for their captions."""
    if panel.scores_N is None:
        return list(range(len(panel.boxes_N4)))
    return [int(index) for index in np.argsort(-panel.scores_N, kind="stable")]


def _rectangle(box_4: Array, *, scale: float) -> Rectangle:
    left, top, right, bottom = (round(float(edge) * scale) for edge in box_4)
    return left, top, max(left, right), max(top, bottom)


def _draw_caption(
    picture: Image.Image,
    caption: str,
    box: Rectangle,
    *,
    colour: Color,
    taken: Sequence[Rectangle],
) -> Rectangle:
    pen, font = ImageDraw.Draw(picture), _font(13)
    size = pen.textlength(caption, font) + 8, 18.0
    place = min(_places(box, size, picture.size), key=lambda place: _overlap(place, taken))
    pen.rectangle(place, fill=colour)
    left, top, _, bottom = place
    pen.text((left + 4, (top + bottom) / 2), caption, _legible_on(colour), font, anchor="lm")
    return place


def _places(
    box: Rectangle, size: tuple[float, float], room: tuple[int, int]
) -> Iterator[Rectangle]:
    """Where a caption may be, best first: at a corner of its box and inside of the picture."""
    left, top, right, bottom = box
    width, height = size
    for x, y in (
        (left, top - height),
        (right - width, top - height),
        (left, bottom),
        (right - width, bottom),
        (left, top),
        (right, top),
        (left - width, top),
    ):
        x = max(0.0, min(x, room[0] - width))
        y = max(0.0, min(y, room[1] - height))
        yield x, y, x + width, y + height


def _overlap(place: Rectangle, taken: Sequence[Rectangle]) -> float:
    """The area that captions would cover of each other."""
    return sum(
        max(0.0, min(place[2], other[2]) - max(place[0], other[0]))
        * max(0.0, min(place[3], other[3]) - max(place[1], other[1]))
        for other in taken
    )


def _legible_on(colour: Color) -> Color:
    red, green, blue = colour
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _PAPER


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
