"""All parameters of a sweep beside each other: every trial a line to its objective."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from configs.spec.search import LogUniform, Scalar
from workers.report.blocks import Picture
from workers.report.plots.style import FAINT, INK, PAPER, QUIET, open_figure, to_picture
from workers.report.plots.trials import SearchResults, is_number
from workers.report.results.trials import ReportTrial
from workers.report.wording import format_scalar

_MOST_LINES = 100


def plot_parallel_coordinates(search: SearchResults) -> Picture:
    """Every trial as a line over its parameters to its objective."""
    paths = list(search.space)
    columns = [*paths, None]
    drawn = sorted(search.trials, key=lambda trial: trial.number in search.best_and_tied)[
        -_MOST_LINES:
    ]
    ladders = {path: _Ladder.of(path, search) for path in paths}
    with open_figure(4.0) as (figure, (axes,)):
        for trial in drawn:
            heights = [ladders[path].height(trial.values.get(path)) for path in paths]
            heights.append(float(search.scale(search.display_value(trial))))
            _draw_line(axes, heights, trial, search)
        for place in range(len(columns)):
            axes.axvline(place, color=QUIET, linewidth=1.0, zorder=1)
        for place, path in enumerate(paths):
            ladders[path].draw(axes, place)
        _draw_objective_ticks(axes, len(paths), search)
        titles = [search.names.get(path, path) for path in paths]
        axes.set_xticks(range(len(columns)), [*titles, search.title])
        axes.tick_params(axis="x", labelcolor=INK, top=True, labeltop=True, labelbottom=False)
        axes.set_yticks([])
        axes.set_ylim(-0.06, 1.06)
        axes.set_xlim(-0.35, len(paths) + 0.35)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        left = len(search.trials) - len(drawn)
        return to_picture(
            figure,
            name="parallel-coordinates",
            caption="Each line is a trial that trained to its end, coloured by its objective; "
            "bold ones are not told apart from the best."
            + (f" {left} more trials are left out of the picture." if left else ""),
            alt="Parallel coordinates of all parameters",
        )


@dataclass(frozen=True)
class _Ladder:
    """One parameter's vertical axis, from 0 to 1."""

    words: tuple[str, ...]
    """Values that are no numbers, or none."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, path: str, search: SearchResults) -> "_Ladder":
        """Over the values that the trials have."""
        seen = [trial.values[path] for trial in search.trials if path in trial.values]
        if not seen or not all(is_number(value) for value in seen):
            words = tuple(dict.fromkeys(format_scalar(value) for value in sorted(seen, key=str)))
            return cls(words or ("",), 0.0, 1.0, is_log=False)
        numbers = [float(value) for value in seen]
        is_log = isinstance(search.space[path], LogUniform) and min(numbers) > 0
        return cls((), min(numbers), max(numbers), is_log)

    def height(self, value: Scalar | None) -> float:
        """Where a value stands; not a number for a trial without the parameter."""
        if value is None:
            return float("nan")
        if self.words:
            return self._step(self.words.index(format_scalar(value)))
        if self.high == self.low:
            return 0.5
        low, high, here = (
            np.log([self.low, self.high, float(value)])
            if self.is_log
            else (self.low, self.high, float(value))
        )
        return float((here - low) / (high - low))

    def draw(self, axes: Axes, place: int) -> None:
        """Its values' labels beside the line."""
        for height, text in self._labels():
            axes.annotate(
                text,
                (place, height),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=FAINT,
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
            )

    def _labels(self) -> list[tuple[float, str]]:
        if self.words:
            return [(self._step(index), word) for index, word in enumerate(self.words)]
        if self.high == self.low:
            return [(0.5, format_scalar(self.low))]
        return [(0.0, format_scalar(self.low)), (1.0, format_scalar(self.high))]

    def _step(self, index: int) -> float:
        return 0.5 if len(self.words) == 1 else index / (len(self.words) - 1)


def _draw_line(
    axes: Axes, heights: Sequence[float], trial: ReportTrial, search: SearchResults
) -> None:
    is_equal = trial.number in search.best_and_tied
    if (path := _smooth(heights)) is None:
        return
    axes.add_patch(
        PathPatch(
            path,
            fill=False,
            edgecolor=search.colormap(search.scale(search.display_value(trial))),
            linewidth=2.6 if is_equal else 1.2,
            alpha=1.0 if is_equal else 0.7,
            zorder=3 if is_equal else 2,
        )
    )


def _smooth(heights: Sequence[float]) -> Path | None:
    """Curves that leave and reach every axis level, so that lines are followed by eye.

    A trial without a parameter has a gap there; none: it has no two neighbours.
    """
    points: list[tuple[float, float]] = []
    codes: list[np.uint8] = []
    for place, (here, there) in enumerate(pairwise(heights)):
        if math.isnan(here) or math.isnan(there):
            continue
        points += [(place, here), (place + 1 / 3, here), (place + 2 / 3, there), (place + 1, there)]
        codes += [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path(points, codes) if points else None


def _draw_objective_ticks(axes: Axes, place: int, search: SearchResults) -> None:
    for height, value in enumerate(search.limits):
        axes.annotate(
            search.format_display_value(value),
            (place, height),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
