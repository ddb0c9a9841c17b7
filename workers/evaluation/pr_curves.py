"""Draws precision-recall curves with Pillow: thin lines for classes, a bold one for the mean."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workers.evaluation.coco import CocoMetrics, PrecisionCurve
from workers.evaluation.lettering import load_font

_SIDE = 420
"""Width and height of a plot in pixels."""

_LEFT_MARGIN, _TOP, _GAP, _BOTTOM = 64, 56, 72, 64
_DARK, _WHITE, _CLASS_COLOR, _GRID = (34, 34, 34), (255, 255, 255), (170, 190, 205), (230, 230, 230)
_MEAN_COLOR = (0, 114, 178)
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_MAX_CLASS_CURVES = 100
"""Curves of single classes are left out if there are more classes than this."""


def draw_pr_curves(metrics: CocoMetrics) -> Image.Image:
    """Draw three plots: for IoU 0.50, for IoU 0.75, and for the mean of 0.50 to 0.95."""
    width = _LEFT_MARGIN + 3 * _SIDE + 2 * _GAP + 24
    sheet = Image.new("RGB", (width, _TOP + _SIDE + _BOTTOM), _WHITE)
    class_curves = list(metrics.curves.values()) if len(metrics.curves) <= _MAX_CLASS_CURVES else []
    for index, (title, name) in enumerate(_iter_plots()):
        x0 = _LEFT_MARGIN + index * (_SIDE + _GAP)
        mean_R = getattr(metrics.overall, name)
        _draw_axes(sheet, f"{title}: AP {_format_ap(mean_R)}", x0=x0)
        for curve in class_curves:
            _draw_line(sheet, getattr(curve, name), x0=x0, color=_CLASS_COLOR, width=1)
        _draw_line(sheet, mean_R, x0=x0, color=_MEAN_COLOR, width=3)
    return sheet


def _iter_plots() -> Iterator[tuple[str, str]]:
    names = (name for name in PrecisionCurve.__dataclass_fields__)
    yield from zip(("IoU 0.50", "IoU 0.75", "IoU 0.50 to 0.95"), names, strict=True)


def _format_ap(precision_R: NDArray[Any]) -> str:
    return "unknown" if np.isnan(precision_R).any() else f"{100 * float(precision_R.mean()):.1f}"


def _draw_axes(sheet: Image.Image, title: str, *, x0: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((x0, _TOP - 28), title, _DARK, load_font(17), anchor="lm")
    for tick in _TICKS:
        x, y = _to_pixels(tick, tick, x0=x0)
        draw.line((x, _TOP, x, _TOP + _SIDE), fill=_GRID)
        draw.line((x0, y, x0 + _SIDE, y), fill=_GRID)
        draw.text((x, _TOP + _SIDE + 14), f"{tick:.1f}", _DARK, load_font(13), anchor="mm")
        draw.text((x0 - 8, y), f"{tick:.1f}", _DARK, load_font(13), anchor="rm")
    draw.rectangle((x0, _TOP, x0 + _SIDE, _TOP + _SIDE), outline=_DARK)
    draw.text((x0 + _SIDE / 2, _TOP + _SIDE + 40), "recall", _DARK, load_font(15), anchor="mm")
    draw.text((x0, _TOP - 8), "precision", _DARK, load_font(13), anchor="lm")


def _draw_line(
    sheet: Image.Image,
    precision_R: NDArray[Any],
    *,
    x0: int,
    color: tuple[int, int, int],
    width: int,
) -> None:
    recalls = np.linspace(0.0, 1.0, len(precision_R))
    points = [
        _to_pixels(float(recall), float(precision), x0=x0)
        for recall, precision in zip(recalls, precision_R, strict=True)
        if not np.isnan(precision)
    ]
    if len(points) > 1:
        ImageDraw.Draw(sheet).line(points, fill=color, width=width, joint="curve")


def _to_pixels(recall: float, precision: float, *, x0: int) -> tuple[float, float]:
    return x0 + recall * _SIDE, _TOP + (1.0 - precision) * _SIDE
