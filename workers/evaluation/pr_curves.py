"""Precision over recall as a picture, drawn with Pillow: the mean boldly, classes behind it."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workers.evaluation.coco import Array, DetailedCocoMetrics, PrecisionCurve

_SIDE = 420
"""Pixels of a plot's edge."""

_LEFT, _TOP, _GAP, _BOTTOM = 64, 56, 72, 64
_INK, _PAPER, _FAINT, _GRID = (34, 34, 34), (255, 255, 255), (170, 190, 205), (230, 230, 230)
_BOLD = (0, 114, 178)
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_MOST_FAINT = 100
"""With more classes than these, lines of single classes say nothing."""


def draw_pr_curves(measures: DetailedCocoMetrics) -> Image.Image:
    """Three plots side by side: IoU 0.50, 0.75, and the mean of 0.50 to 0.95."""
    width = _LEFT + 3 * _SIDE + 2 * _GAP + 24
    sheet = Image.new("RGB", (width, _TOP + _SIDE + _BOTTOM), _PAPER)
    faint = list(measures.curves.values()) if len(measures.curves) <= _MOST_FAINT else []
    for index, (title, name) in enumerate(_plots()):
        left = _LEFT + index * (_SIDE + _GAP)
        bold = getattr(measures.overall, name)
        _axes(sheet, f"{title}: AP {_area(bold)}", left=left)
        for curve in faint:
            _line(sheet, getattr(curve, name), left=left, colour=_FAINT, width=1)
        _line(sheet, bold, left=left, colour=_BOLD, width=3)
    return sheet


def _plots() -> Iterator[tuple[str, str]]:
    names = (name for name in PrecisionCurve.__dataclass_fields__)
    yield from zip(("IoU 0.50", "IoU 0.75", "IoU 0.50 to 0.95"), names, strict=True)


def _area(precision_R: Array) -> str:
    return "unknown" if np.isnan(precision_R).any() else f"{100 * float(precision_R.mean()):.1f}"


def _axes(sheet: Image.Image, title: str, *, left: int) -> None:
    pen = ImageDraw.Draw(sheet)
    pen.text((left, _TOP - 28), title, _INK, _font(17), anchor="lm")
    for tick in _TICKS:
        x, y = _point(tick, tick, left=left)
        pen.line((x, _TOP, x, _TOP + _SIDE), fill=_GRID)
        pen.line((left, y, left + _SIDE, y), fill=_GRID)
        pen.text((x, _TOP + _SIDE + 14), f"{tick:.1f}", _INK, _font(13), anchor="mm")
        pen.text((left - 8, y), f"{tick:.1f}", _INK, _font(13), anchor="rm")
    pen.rectangle((left, _TOP, left + _SIDE, _TOP + _SIDE), outline=_INK)
    pen.text((left + _SIDE / 2, _TOP + _SIDE + 40), "recall", _INK, _font(15), anchor="mm")
    pen.text((left, _TOP - 8), "precision", _INK, _font(13), anchor="lm")


def _line(
    sheet: Image.Image, precision_R: Array, *, left: int, colour: tuple[int, int, int], width: int
) -> None:
    recalls = np.linspace(0.0, 1.0, len(precision_R))
    points = [
        _point(float(recall), float(precision), left=left)
        for recall, precision in zip(recalls, precision_R, strict=True)
        if not np.isnan(precision)
    ]
    if len(points) > 1:
        ImageDraw.Draw(sheet).line(points, fill=colour, width=width, joint="curve")


def _point(recall: float, precision: float, *, left: int) -> tuple[float, float]:
    return left + recall * _SIDE, _TOP + (1.0 - precision) * _SIDE


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
