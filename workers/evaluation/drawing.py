"""Draws the boxes of ground truth, teacher and student on images."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workers.evaluation.lettering import load_font, make_drawable

_MIN_SIDE, _MAX_SIDE = 480, 720
"""Limits of a panel's longer side in pixels; images are scaled to fit."""

_MIN_WIDTH = 210
"""Width in pixels that a panel's title needs."""

_HEADER_HEIGHT = 32
_GAP = 12
_MARGIN = 12
_MAX_STEM_BYTES = 200
_DARK = (34, 34, 34)
_WHITE = (255, 255, 255)
COLORS = {
    "truth": (0, 114, 178),
    "teacher": (230, 159, 0),
    "baseline": (0, 158, 115),
    "student": (204, 51, 119),
}
"""RGB colors that color-blind people can distinguish (Okabe and Ito, 2008)."""

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the panel."""


@dataclass(frozen=True)
class Panel:
    """Boxes (N, 4) in pixels, class indices and scores of one detector or of the ground truth."""

    title: str
    color: Color
    boxes_N4: NDArray[Any]
    labels_N: NDArray[Any]
    scores_N: NDArray[Any] | None = None


def draw_side_by_side(
    image_HW3: NDArray[Any], panels: Sequence[Panel], *, class_names: Sequence[str]
) -> Image.Image:
    """Draw the RGB image once for each panel, with the panel's boxes on it."""
    longest = max(image_HW3.shape[:2])
    scale = min(max(longest, _MIN_SIDE), _MAX_SIDE) / longest
    height, width = (max(1, round(side * scale)) for side in image_HW3.shape[:2])
    scaled = Image.fromarray(image_HW3).resize((width, height), Image.Resampling.BICUBIC)
    column = max(width, _MIN_WIDTH)
    sheet = Image.new(
        "RGB", (len(panels) * (column + _GAP) - _GAP, height + _HEADER_HEIGHT), _WHITE
    )
    for index, panel in enumerate(panels):
        x = index * (column + _GAP)
        _draw_header(sheet, panel, x=x)
        drawn = scaled.copy()
        draw_boxes(drawn, panel, scale=scale, class_names=class_names)
        sheet.paste(drawn, (x, _HEADER_HEIGHT))
    return sheet


def draw_boxes(
    picture: Image.Image,
    panel: Panel,
    *,
    scale: float,
    class_names: Sequence[str],
    font_size: int = 13,
) -> None:
    """Draw a panel's boxes, multiplied by `scale`, on the picture; `font_size` is in pixels.

    Boxes are drawn before captions, so that no box crosses a caption.
    """
    draw = ImageDraw.Draw(picture)
    order = _order_by_confidence(panel)
    boxes = [_scale_box(panel.boxes_N4[index], scale=scale) for index in order]
    for x1, y1, x2, y2 in reversed(boxes):
        # The white outline separates the color from dark images.
        draw.rectangle((x1 - 2, y1 - 2, x2 + 2, y2 + 2), outline=_WHITE, width=1)
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=panel.color, width=3)
    captions: list[Rectangle] = []
    for index, box in zip(order, boxes, strict=True):
        caption = make_drawable(class_names[int(panel.labels_N[index])])
        if panel.scores_N is not None:
            caption += f" {panel.scores_N[index]:.2f}"
        captions.append(
            _draw_caption(
                picture,
                caption,
                box,
                color=panel.color,
                font_size=font_size,
                other_captions=captions,
            )
        )


def stack_vertically(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put all pictures below each other on one sheet."""
    width = max(picture.width for picture in pictures) + 2 * _MARGIN
    height = sum(picture.height + _MARGIN for picture in pictures) + _MARGIN
    sheet = Image.new("RGB", (width, height), _WHITE)
    y = _MARGIN
    for picture in pictures:
        sheet.paste(picture, (_MARGIN, y))
        y += picture.height + _MARGIN
    return sheet


def choose_picture_name(image: Path, names: Collection[str]) -> str:
    """The image's name with .png, and with a number if it is among `names`.

    Names are compared without case, as some file systems do.
    """
    stem = image.stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
    existing = {name.casefold() for name in names}
    name, count = f"{stem}.png", 1
    while name.casefold() in existing:
        count += 1
        name = f"{stem}-{count}.png"
    return name


def _draw_header(sheet: Image.Image, panel: Panel, *, x: int) -> None:
    draw = ImageDraw.Draw(sheet)
    number = len(panel.boxes_N4)
    middle = _HEADER_HEIGHT // 2 - 1
    draw.rectangle((x, middle - 7, x + 14, middle + 7), fill=panel.color)
    count = "nothing" if number == 0 else "1 box" if number == 1 else f"{number} boxes"
    draw.text((x + 23, middle), f"{panel.title}: {count}", _DARK, load_font(18), anchor="lm")


def _order_by_confidence(panel: Panel) -> list[int]:
    """Indices of the boxes, the most confident first: these get the best caption positions."""
    if panel.scores_N is None:
        return list(range(len(panel.boxes_N4)))
    return [int(index) for index in np.argsort(-panel.scores_N, kind="stable")]


def _scale_box(box_4: NDArray[Any], *, scale: float) -> Rectangle:
    x1, y1, x2, y2 = (round(float(edge) * scale) for edge in box_4)
    return x1, y1, max(x1, x2), max(y1, y2)


def _draw_caption(
    picture: Image.Image,
    caption: str,
    box: Rectangle,
    *,
    color: Color,
    font_size: int,
    other_captions: Sequence[Rectangle],
) -> Rectangle:
    draw, font = ImageDraw.Draw(picture), load_font(font_size)
    size = draw.textlength(caption, font) + 8, font_size + 5.0
    position = min(
        _iter_caption_positions(box, size, picture.size),
        key=lambda candidate: _compute_overlap(candidate, other_captions),
    )
    draw.rectangle(position, fill=color)
    x1, y1, _, y2 = position
    draw.text((x1 + 4, (y1 + y2) / 2), caption, _contrasting_color(color), font, anchor="lm")
    return position


def _iter_caption_positions(
    box: Rectangle, size: tuple[float, float], picture_size: tuple[int, int]
) -> Iterator[Rectangle]:
    """Positions of a caption at the corners of its box and inside the picture, best first."""
    x1, y1, x2, y2 = box
    width, height = size
    for x, y in (
        (x1, y1 - height),
        (x2 - width, y1 - height),
        (x1, y2),
        (x2 - width, y2),
        (x1, y1),
        (x2, y1),
        (x1 - width, y1),
    ):
        x = max(0.0, min(x, picture_size[0] - width))
        y = max(0.0, min(y, picture_size[1] - height))
        yield x, y, x + width, y + height


def _compute_overlap(position: Rectangle, captions: Sequence[Rectangle]) -> float:
    """The total area that a caption shares with other captions."""
    return sum(
        max(0.0, min(position[2], other[2]) - max(position[0], other[0]))
        * max(0.0, min(position[3], other[3]) - max(position[1], other[1]))
        for other in captions
    )


def _contrasting_color(background: Color) -> Color:
    red, green, blue = background
    return _DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _WHITE
