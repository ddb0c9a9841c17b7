"""The objective over the two weights of BCKD, as a heat map or as points."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Rectangle

from configs.spec.search import BALANCE, RATIO, LogUniform
from configs.spec.sweep import Space
from workers.report.blocks import Picture
from workers.report.plots.style import INK, PAPER, QUIET, Canvas, draw_picture, set_log_scale
from workers.report.plots.trials import SearchResults, is_number
from workers.report.results.trials import ReportTrial
from workers.report.wording import format_scalar

_WEIGHT_PATHS = (("distillation.cls_weight", "distillation.loc_weight"), (RATIO, BALANCE))
_MIN_GRID_FILL = 0.6
"""Minimum share of grid cells with a trial for a heat map."""

_MAX_GRID_SIDE = 16
_MAX_NARROW_CELLS = 8
"""Number of columns up to which a narrow heat map has letters of the usual size."""

_DARK_LUMINANCE = 0.42
"""Luminance below which the number in a cell is white."""


def weight_axes(space: Space) -> tuple[str, str] | None:
    """Paths of the two weights, if the space has both."""
    for pair in _WEIGHT_PATHS:
        if all(path in space for path in pair):
            return pair
    return None


def plot_weights(results: SearchResults, paths: tuple[str, str]) -> Picture | None:
    """Plot the objective over two weights: a heat map if the trials form a grid, else points.

    None if no trial has both weights as numbers.
    """
    trials = [t for t in results.trials if all(is_number(t.values.get(p)) for p in paths)]
    if not trials:
        return None
    points = {tuple(_get_weight(trial, path) for path in paths) for trial in trials}
    sides = [sorted({point[axis] for point in points}) for axis in (0, 1)]
    cells = len(sides[0]) * len(sides[1])
    is_grid = (
        min(map(len, sides)) > 1
        and max(map(len, sides)) <= _MAX_GRID_SIDE
        and len(points) >= _MIN_GRID_FILL * cells
    )
    if is_grid:
        return _plot_heat_map(results, trials, paths, sides)
    return _plot_points(results, trials, paths)


def _get_weight(trial: ReportTrial, path: str) -> float:
    return float(trial.values[path])


def _plot_heat_map(
    results: SearchResults,
    trials: Sequence[ReportTrial],
    paths: tuple[str, str],
    sides: Sequence[Sequence[float]],
) -> Picture:
    by_cell: dict[tuple[int, int], list[ReportTrial]] = {}
    for trial in trials:
        x, y = (sides[axis].index(_get_weight(trial, path)) for axis, path in enumerate(paths))
        by_cell.setdefault((x, y), []).append(trial)

    def draw(canvas: Canvas) -> None:
        (axes,) = canvas.plots
        is_dense = canvas.is_narrow and len(sides[0]) > _MAX_NARROW_CELLS
        for cell, cell_trials in by_cell.items():
            _draw_cell(axes, cell, cell_trials, results, font_size=7.0 if is_dense else 10.0)
        axes.set_xticks(range(len(sides[0])), [format_scalar(value) for value in sides[0]])
        axes.set_yticks(range(len(sides[1])), [format_scalar(value) for value in sides[1]])
        axes.set_xlim(-0.55, len(sides[0]) - 0.45)
        axes.set_ylim(-0.55, len(sides[1]) - 0.45)
        axes.grid(visible=False)
        _finish_figure(canvas, results, paths)

    return draw_picture(
        draw,
        height_in=0.95 + 0.52 * len(sides[1]),
        name="weights",
        caption=f"{results.title} of each pair of weights, the mean where several trials have "
        f"it. Outlined cells are not told apart from the best.{_describe_floor(results)}",
        alt="Heat map over the two weights",
    )


def _draw_cell(
    axes: Axes,
    cell: tuple[int, int],
    cell_trials: Sequence[ReportTrial],
    results: SearchResults,
    *,
    font_size: float,
) -> None:
    x, y = cell
    value = float(np.mean([results.display_value(trial) for trial in cell_trials]))
    color = results.colormap(results.scale(value))
    is_equal = any(trial.number in results.best_and_tied for trial in cell_trials)
    axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=color, linewidth=0))
    if is_equal:
        axes.add_patch(
            Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, edgecolor=INK, linewidth=2.6)
        )
    red, green, blue, _ = color
    is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < _DARK_LUMINANCE
    axes.text(
        x,
        y,
        results.format_display_value(value),
        ha="center",
        va="center",
        color="#ffffff" if is_dark else "#10151c",
        fontweight="bold" if is_equal else "normal",
        fontsize=font_size,
    )


def _plot_points(
    results: SearchResults, trials: Sequence[ReportTrial], paths: tuple[str, str]
) -> Picture:
    def draw(canvas: Canvas) -> None:
        (axes,) = canvas.plots
        for trial in results.other_trials:
            if all(is_number(trial.values.get(path)) for path in paths):
                x, y = (_get_weight(trial, path) for path in paths)
                axes.plot(x, y, "x", color=QUIET, markersize=6, markeredgewidth=1.4)
        for trial in trials:
            x, y = (_get_weight(trial, path) for path in paths)
            color = results.colormap(results.scale(results.display_value(trial)))
            if trial.number in results.best_and_tied:
                axes.plot(x, y, "o", color=INK, markersize=17)
                axes.plot(x, y, "o", color=PAPER, markersize=14)
            axes.plot(x, y, "o", color=color, markersize=10.5)
        for side, path in enumerate(paths):
            if isinstance(results.space[path], LogUniform):
                set_log_scale(axes, side, [_get_weight(trial, path) for trial in trials])
        axes.margins(0.09)
        _finish_figure(canvas, results, paths)

    crosses = " Crosses are trials that did not train to their end." if results.other_trials else ""
    return draw_picture(
        draw,
        height_in=4.2,
        name="weights",
        caption=f"Each point is a trial, colored by {results.title}. Ringed points are not "
        f"told apart from the best.{_describe_floor(results)}{crosses}",
        alt="Trials over the two weights",
    )


def _describe_floor(results: SearchResults) -> str:
    if results.floor is None:
        return ""
    return (
        f" The noise floor is {results.floor:.1f} mAP; the bar's mark is that far below the best."
    )


def _finish_figure(canvas: Canvas, results: SearchResults, paths: tuple[str, str]) -> None:
    (axes,) = canvas.plots
    axes.set_xlabel(results.names.get(paths[0], paths[0]))
    axes.set_ylabel(results.names.get(paths[1], paths[1]))
    for spine in axes.spines.values():
        spine.set_visible(False)
    mappable = ScalarMappable(results.scale, results.colormap)
    bar = canvas.figure.colorbar(mappable, ax=axes, aspect=28, pad=0.02)
    bar.ax.set_title(results.title, fontsize=9.5, fontweight="normal", pad=12)
    low, high = results.limits
    if results.floor is not None and high - results.floor > low:
        bar.ax.axhline(high - results.floor, color=INK, linewidth=2.6)
    bar.outline.set_visible(False)
