"""Validation images with true, teacher's and student's boxes side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_PANEL_SIDE = 480
_HEADER = 30
_GAP = 10
_INK = (20, 20, 20)
_PAPER = (250, 250, 250)
COLOURS = {"truth": (0, 114, 178), "teacher": (230, 159, 0), "student": (204, 51, 119)}
"""Told apart by colour-blind people too (Okabe and Ito, 2008)."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Panel:
    """One detector's view, or the truth: boxes (N, 4) in pixels, class indices, scores."""

    title: str
    colour: tuple[int, int, int]
    boxes_N4: Array
    labels_N: Array
    scores_N: Array | None = None


def side_by_side(
    image_HW3: Array, panels: Sequence[Panel], *, class_names: Sequence[str]
) -> Image.Image:
    """The image once per panel, in RGB, with that panel's boxes on it."""
    scale = _PANEL_SIDE / max(image_HW3.shape[:2])
    height, width = (round(side * scale) for side in image_HW3.shape[:2])
    small = Image.fromarray(image_HW3).resize((width, height), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (len(panels) * (width + _GAP) - _GAP, height + _HEADER), _PAPER)
    for index, panel in enumerate(panels):
        left = index * (width + _GAP)
        drawn = small.copy()
        _draw_boxes(drawn, panel, scale=scale, class_names=class_names)
        sheet.paste(drawn, (left, _HEADER))
        title = f"{panel.title} ({len(panel.boxes_N4)})"
        ImageDraw.Draw(sheet).text((left + 4, 6), title, fill=panel.colour, font=_font(18))
    return sheet


def contact_sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """All pictures under each other."""
    width = max(picture.width for picture in pictures)
    height = sum(picture.height + _GAP for picture in pictures) - _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + _GAP
    return sheet


def _draw_boxes(
    picture: Image.Image, panel: Panel, *, scale: float, class_names: Sequence[str]
) -> None:
    pen = ImageDraw.Draw(picture)
    for index, box in enumerate(panel.boxes_N4):
        left, top, right, bottom = (float(edge) * scale for edge in box)
        pen.rectangle(
            (left, top, max(left, right), max(top, bottom)), outline=panel.colour, width=2
        )
        caption = class_names[int(panel.labels_N[index])]
        if panel.scores_N is not None:
            caption += f" {panel.scores_N[index]:.2f}"
        _draw_caption(pen, caption, (left, top), colour=panel.colour)


def _draw_caption(
    pen: ImageDraw.ImageDraw,
    caption: str,
    corner: tuple[float, float],
    *,
    colour: tuple[int, int, int],
) -> None:
    font = _font(14)
    left, top, right, bottom = pen.textbbox((0, 0), caption, font=font)
    x, y = corner[0], max(0.0, corner[1] - (bottom - top) - 5)
    pen.rectangle((x, y, x + right - left + 6, y + bottom - top + 5), fill=colour)
    pen.text((x + 3 - left, y + 2 - top), caption, fill=(255, 255, 255), font=font)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
