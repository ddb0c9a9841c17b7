"""Curves of metrics that runs report while they train, over epochs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from configs.protocol.report import CurvePoint
from workers.report.plots.style import BAD, GOOD, STUDENT, TEACHER, draw_legend

_COLORS = (STUDENT, TEACHER, GOOD, BAD)


@dataclass(frozen=True)
class MetricCurve:
    """A metric over epochs, the mean over runs."""

    epochs: tuple[float, ...]
    values: tuple[float, ...]


def mean_curve(
    runs: Sequence[Sequence[CurvePoint]], read_value: Callable[[CurvePoint], float | None]
) -> MetricCurve | None:
    """The mean over the runs that were measured at the same steps as the first one.

    Points where `read_value` is None are left out. None if the first run has no others.
    """
    curves = []
    for points in runs:
        values = [(point.epoch, read_value(point)) for point in points]
        curves.append([(epoch, value) for epoch, value in values if value is not None])
    if not curves or not curves[0]:
        return None
    epochs = tuple(epoch for epoch, _ in curves[0])
    same = [curve for curve in curves if tuple(epoch for epoch, _ in curve) == epochs]
    means = tuple(fmean(value for _, value in points) for points in zip(*same, strict=True))
    return MetricCurve(epochs, means)


def mean_curves(runs: Sequence[Sequence[CurvePoint]], *, prefix: str) -> dict[str, MetricCurve]:
    """The means of all metrics whose keys begin with a prefix, by the rest of the key, sorted."""
    keys = {key for points in runs for point in points for key in point.values}
    curves = {
        key.removeprefix(prefix): mean_curve(runs, partial(_read_metric, key))
        for key in sorted(keys)
        if key.startswith(prefix)
    }
    return {name: curve for name, curve in curves.items() if curve is not None}


def _read_metric(key: str, point: CurvePoint) -> float | None:
    return point.values.get(key)


def draw_metric_curves(axes: Axes, curves: Mapping[str, MetricCurve]) -> None:
    """Draw each curve in a color of its own; dotted from the fifth on."""
    for index, (name, curve) in enumerate(curves.items()):
        style = "-" if index < len(_COLORS) else ":"
        axes.plot(curve.epochs, curve.values, color=curve_color(index), linestyle=style, label=name)


def curve_color(index: int) -> str:
    """The color of the curve with an index."""
    return _COLORS[index % len(_COLORS)]


def finish_epoch_plot(axes: Axes, *, title: str) -> None:
    """Label the epochs, and put title and legend above the plot."""
    axes.set_xlabel("epoch")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_legend(axes, title=title)
