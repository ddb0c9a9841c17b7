"""mAP over the two weights of BCKD: as cells where the trials make a grid, else as points."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from configs.spec.search import BALANCE, RATIO, LogUniform
from configs.spec.sweep import Space
from workers.report.blocks import Picture
from workers.report.plots.style import INK, PAPER, QUIET, open_figure, to_picture
from workers.report.plots.trials import SearchResults, is_number
from workers.report.results.trials import ReportTrial
from workers.report.wording import format_scalar

_WEIGHTS = (("distillation.cls_weight", "distillation.loc_weight"), (RATIO, BALANCE))
_FULL = 0.6
"""From this share of filled cells on a grid is drawn as one."""

_MOST_CELLS_A_SIDE = 16
_FEW_DECADES = 2.5
"""Up to so many an axis has marks at 1, 2 and 5 of each."""

_DARK = 0.42
"""Below this brightness a cell's number is white."""


def weight_axes(space: Space) -> tuple[str, str] | None:
    """The two weights of a space, if it has both as numbers."""
    for pair in _WEIGHTS:
        if all(path in space for path in pair):
            return pair
    return None


def plot_weights(search: SearchResults, axes_of: tuple[str, str]) -> Picture | None:
    """mAP over two weights: cells where the trials make a grid, else points; none without two."""
    trials = [t for t in search.trials if all(is_number(t.values.get(p)) for p in axes_of)]
    if not trials:
        return None
    places = {tuple(_number(trial, path) for path in axes_of) for trial in trials}
    sides = [sorted({place[axis] for place in places}) for axis in (0, 1)]
    cells = len(sides[0]) * len(sides[1])
    is_grid = (
        min(map(len, sides)) > 1
        and max(map(len, sides)) <= _MOST_CELLS_A_SIDE
        and len(places) >= _FULL * cells
    )
    if is_grid:
        return _cells_picture(search, trials, axes_of, sides)
    return _points_picture(search, trials, axes_of)


def _number(trial: ReportTrial, path: str) -> float:
    return float(trial.values[path])


def _cells_picture(
    search: SearchResults,
    trials: Sequence[ReportTrial],
    axes_of: tuple[str, str],
    sides: Sequence[Sequence[float]],
) -> Picture:
    by_cell: dict[tuple[int, int], list[ReportTrial]] = {}
    for trial in trials:
        x, y = (sides[axis].index(_number(trial, path)) for axis, path in enumerate(axes_of))
        by_cell.setdefault((x, y), []).append(trial)
    with open_figure(0.95 + 0.52 * len(sides[1])) as (figure, (axes,)):
        for cell, here in by_cell.items():
            _draw_cell(axes, cell, here, search)
        axes.set_xticks(range(len(sides[0])), [format_scalar(value) for value in sides[0]])
        axes.set_yticks(range(len(sides[1])), [format_scalar(value) for value in sides[1]])
        axes.set_xlim(-0.55, len(sides[0]) - 0.45)
        axes.set_ylim(-0.55, len(sides[1]) - 0.45)
        axes.grid(visible=False)
        _finish_map(figure, axes, search, axes_of)
        return to_picture(
            figure,
            name="weights",
            caption=f"{search.title} of each pair of weights, the mean where several trials have "
            f"it. Outlined cells are not told apart from the best.{_about_floor(search)}",
            alt="Heat map over the two weights",
        )


def _draw_cell(
    axes: Axes, cell: tuple[int, int], here: Sequence[ReportTrial], search: SearchResults
) -> None:
    x, y = cell
    value = float(np.mean([search.display_value(trial) for trial in here]))
    color = search.colormap(search.scale(value))
    is_equal = any(trial.number in search.best_and_tied for trial in here)
    axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=color, linewidth=0))
    if is_equal:
        axes.add_patch(
            Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, edgecolor=INK, linewidth=2.6)
        )
    red, green, blue, _ = color
    is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < _DARK
    axes.text(
        x,
        y,
        search.format_display_value(value),
        ha="center",
        va="center",
        color="#ffffff" if is_dark else "#10151c",
        fontweight="bold" if is_equal else "normal",
    )


def _points_picture(
    search: SearchResults, trials: Sequence[ReportTrial], axes_of: tuple[str, str]
) -> Picture:
    with open_figure(4.2) as (figure, (axes,)):
        for trial in search.other_trials:
            if all(is_number(trial.values.get(path)) for path in axes_of):
                x, y = (_number(trial, path) for path in axes_of)
                axes.plot(x, y, "x", color=QUIET, markersize=6, markeredgewidth=1.4)
        for trial in trials:
            x, y = (_number(trial, path) for path in axes_of)
            color = search.colormap(search.scale(search.display_value(trial)))
            if trial.number in search.best_and_tied:
                axes.plot(x, y, "o", color=INK, markersize=17)
                axes.plot(x, y, "o", color=PAPER, markersize=14)
            axes.plot(x, y, "o", color=color, markersize=10.5)
        for side, path in enumerate(axes_of):
            if isinstance(search.space[path], LogUniform):
                _set_log(axes, side, [_number(trial, path) for trial in trials])
        axes.margins(0.09)
        _finish_map(figure, axes, search, axes_of)
        crosses = (
            " Crosses are trials that did not train to their end." if search.other_trials else ""
        )
        return to_picture(
            figure,
            name="weights",
            caption=f"Each point is a trial, coloured by {search.title}. Ringed points are not "
            f"told apart from the best.{_about_floor(search)}{crosses}",
            alt="Trials over the two weights",
        )


def _set_log(axes: Axes, side: int, values: Sequence[float]) -> None:
    """By magnitude; a weight of 0, which a first trial may have, keeps a place beside them."""
    set_scale, axis = ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis))[side]
    smallest = min((value for value in values if value > 0), default=1.0)
    if min(values) > 0:
        set_scale("log")
    else:
        set_scale("symlog", linthresh=smallest)
        return
    decades = math.log10(max(values) / smallest)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < _FEW_DECADES else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_scalar(float(value))))
    axis.set_minor_locator(NullLocator())


def _about_floor(search: SearchResults) -> str:
    if search.floor is None:
        return ""
    return f" The noise floor is {search.floor:.1f}; the bar's mark is that far below the best."


def _finish_map(
    figure: Figure, axes: Axes, search: SearchResults, axes_of: tuple[str, str]
) -> None:
    axes.set_xlabel(search.names.get(axes_of[0], axes_of[0]))
    axes.set_ylabel(search.names.get(axes_of[1], axes_of[1]))
    for spine in axes.spines.values():
        spine.set_visible(False)
    mappable = ScalarMappable(search.scale, search.colormap)
    bar = figure.colorbar(mappable, ax=axes, aspect=28, pad=0.02)
    bar.ax.set_title(search.title, fontsize=9.5, fontweight="normal", pad=12)
    low, high = search.limits
    if search.floor is not None and high - search.floor > low:
        bar.ax.axhline(high - search.floor, color=INK, linewidth=2.6)
    bar.outline.set_visible(False)
