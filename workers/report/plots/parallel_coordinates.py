"""Parallel coordinates of all parameters and the objective."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from configs.spec.search import LogUniform, Scalar
from workers.report.blocks import Picture
from workers.report.plots.style import FAINT, INK, PAPER, QUIET, Canvas, draw_picture
from workers.report.plots.trials import SearchResults, is_number
from workers.report.results.trials import ReportTrial
from workers.report.wording import format_scalar

_MAX_LINES = 100
_MAX_UPRIGHT_TITLES = 4
"""Number of axes whose titles fit beside each other into a narrow plot."""


def plot_parallel_coordinates(results: SearchResults) -> Picture:
    """Plot every trial as a line over its parameters to its objective."""
    paths = list(results.space)
    columns = [*paths, None]
    visible_trials = sorted(
        results.trials, key=lambda trial: trial.number in results.best_and_tied
    )[-_MAX_LINES:]
    parameter_axes = {path: _ParameterAxis.of(path, results) for path in paths}

    def draw(canvas: Canvas) -> None:
        (axes,) = canvas.plots
        for trial in visible_trials:
            heights = [parameter_axes[path].height(trial.values.get(path)) for path in paths]
            heights.append(float(results.scale(results.display_value(trial))))
            _draw_line(axes, heights, trial, results)
        for position in range(len(columns)):
            axes.axvline(position, color=QUIET, linewidth=1.0, zorder=1)
        for position, path in enumerate(paths):
            parameter_axes[path].draw(axes, position)
        _draw_objective_ticks(axes, len(paths), results)
        titles = [*(results.names.get(path, path) for path in paths), results.title]
        is_slanted = canvas.is_narrow and len(titles) > _MAX_UPRIGHT_TITLES
        slant: Any = {"rotation": 35, "ha": "left"} if is_slanted else {}
        axes.set_xticks(range(len(columns)), titles, **slant)
        axes.tick_params(axis="x", labelcolor=INK, top=True, labeltop=True, labelbottom=False)
        axes.set_yticks([])
        axes.set_ylim(-0.06, 1.06)
        axes.set_xlim(-0.35, len(paths) + (0.55 if canvas.is_narrow else 0.35))
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)

    num_hidden = len(results.trials) - len(visible_trials)
    return draw_picture(
        draw,
        height_in=4.0,
        name="parallel-coordinates",
        caption="Each line is a trial that trained to its end, colored by its objective; "
        "bold ones are not told apart from the best."
        + (f" {num_hidden} more trials are left out of the picture." if num_hidden else ""),
        alt="Parallel coordinates of all parameters",
    )


@dataclass(frozen=True)
class _ParameterAxis:
    """Vertical axis of a parameter, with positions from 0 to 1."""

    categories: tuple[str, ...]
    """Values of a categorical parameter; empty for a numeric one."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, path: str, results: SearchResults) -> "_ParameterAxis":
        """Build the axis from the values of the trials."""
        values = [trial.values[path] for trial in results.trials if path in trial.values]
        if not values or not all(is_number(value) for value in values):
            categories = tuple(
                dict.fromkeys(format_scalar(value) for value in sorted(values, key=str))
            )
            return cls(categories or ("",), 0.0, 1.0, is_log=False)
        numbers = [float(value) for value in values]
        is_log = isinstance(results.space[path], LogUniform) and min(numbers) > 0
        return cls((), min(numbers), max(numbers), is_log)

    def height(self, value: Scalar | None) -> float:
        """Position of a value on the axis; NaN for a trial without the parameter."""
        if value is None:
            return float("nan")
        if self.categories:
            return self._step(self.categories.index(format_scalar(value)))
        if self.high == self.low:
            return 0.5
        low, high, position = (
            np.log([self.low, self.high, float(value)])
            if self.is_log
            else (self.low, self.high, float(value))
        )
        return float((position - low) / (high - low))

    def draw(self, axes: Axes, position: int) -> None:
        """Draw the labels of its values."""
        for height, text in self._labels():
            axes.annotate(
                text,
                (position, height),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=FAINT,
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
            )

    def _labels(self) -> list[tuple[float, str]]:
        if self.categories:
            return [(self._step(index), category) for index, category in enumerate(self.categories)]
        if self.high == self.low:
            return [(0.5, format_scalar(self.low))]
        return [(0.0, format_scalar(self.low)), (1.0, format_scalar(self.high))]

    def _step(self, index: int) -> float:
        return 0.5 if len(self.categories) == 1 else index / (len(self.categories) - 1)


def _draw_line(
    axes: Axes, heights: Sequence[float], trial: ReportTrial, results: SearchResults
) -> None:
    is_equal = trial.number in results.best_and_tied
    if (path := _smooth_path(heights)) is None:
        return
    axes.add_patch(
        PathPatch(
            path,
            fill=False,
            edgecolor=results.colormap(results.scale(results.display_value(trial))),
            linewidth=2.6 if is_equal else 1.2,
            alpha=1.0 if is_equal else 0.7,
            zorder=3 if is_equal else 2,
        )
    )


def _smooth_path(heights: Sequence[float]) -> Path | None:
    """Connect the axes by curves with horizontal ends, so that lines can be followed by eye.

    A trial without a parameter has a gap there. None if it has no two adjacent parameters.
    """
    points: list[tuple[float, float]] = []
    codes: list[np.uint8] = []
    for position, (start, end) in enumerate(pairwise(heights)):
        if math.isnan(start) or math.isnan(end):
            continue
        points += [
            (position, start),
            (position + 1 / 3, start),
            (position + 2 / 3, end),
            (position + 1, end),
        ]
        codes += [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path(points, codes) if points else None


def _draw_objective_ticks(axes: Axes, position: int, results: SearchResults) -> None:
    for height, value in enumerate(results.limits):
        axes.annotate(
            results.format_display_value(value),
            (position, height),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
