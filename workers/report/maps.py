"""Pictures of a search: mAP over the two weights, all parameters beside each other, trade-offs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from configs.spec import BALANCE, RATIO, LogUniform, Objective, Scalar, Space
from workers.report.content import Picture
from workers.report.drawing import FAINT, INK, PAPER, QUIET, STUDENT, colour_map, picture, sheet
from workers.report.trials import Trial
from workers.report.wording import is_ap, metric_title, scalar

_WEIGHTS = (("distillation.cls_weight", "distillation.loc_weight"), (RATIO, BALANCE))
_FULL = 0.6
"""From this share of filled cells on a grid is drawn as one."""

_MOST_CELLS_A_SIDE = 16
_MOST_LINES = 200
_DARK = 0.55
"""Below this brightness a cell's number is white."""


@dataclass(frozen=True)
class Search:
    """Finished trials, and which of them noise does not tell apart from the best."""

    trials: Sequence[Trial]
    others: Sequence[Trial]
    """Those that were stopped or failed."""

    space: Space
    objective: Objective
    best: int | None
    tied: Collection[int]
    names: Mapping[str, str]

    @property
    def equals(self) -> set[int]:
        """The best and what is tied with it."""
        return {*self.tied, *([] if self.best is None else [self.best])}

    @property
    def factor(self) -> float:
        """What the objective is multiplied with to be shown."""
        return 100.0 if is_ap(self.objective.metric) else 1.0

    @property
    def title(self) -> str:
        """The objective as people call it."""
        return metric_title(self.objective.metric)

    def shown(self, trial: Trial) -> float:
        """The objective of a finished trial, as it is shown."""
        value = trial.value(self.objective)
        assert value is not None
        return value * self.factor

    @property
    def scale(self) -> Normalize:
        """From the worst to the best trial."""
        values = [self.shown(trial) for trial in self.trials]
        return Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1)


def weight_axes(space: Space) -> tuple[str, str] | None:
    """The two weights of a space, if it has both as numbers."""
    for pair in _WEIGHTS:
        if all(path in space for path in pair):
            return pair
    return None


def weights_picture(search: Search, axes_of: tuple[str, str]) -> Picture | None:
    """mAP over two weights: cells where the trials make a grid, else points; none without two."""
    trials = [t for t in search.trials if all(_is_number(t.values.get(p)) for p in axes_of)]
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


def parallel_picture(search: Search) -> Picture:
    """Every trial as a line over its parameters to its objective."""
    paths = list(search.space)
    columns = [*paths, None]
    drawn = sorted(search.trials, key=lambda trial: trial.number in search.equals)[-_MOST_LINES:]
    ladders = {path: _Ladder.of(path, search) for path in paths}
    with sheet(4.0) as (figure, (axes,)):
        for trial in drawn:
            heights = [ladders[path].height(trial.values.get(path)) for path in paths]
            heights.append(float(search.scale(search.shown(trial))))
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
        return picture(
            figure,
            name="parallel-coordinates",
            caption="Each line is a trial that trained to its end, coloured by its objective; "
            "bold ones are not told apart from the best.",
            alt="Parallel coordinates of all parameters",
        )


def front_picture(trials: Sequence[Trial], objectives: tuple[Objective, Objective]) -> Picture:
    """Two objectives against each other; on the line nothing is better in both."""
    best = {trial.number for trial in front_of(trials, objectives)}
    first, second = objectives
    with sheet(3.7) as (figure, (axes,)):
        for trial in trials:
            x, y = (_shown(trial, objective) for objective in (second, first))
            is_best = trial.number in best
            axes.plot(x, y, "o", color=STUDENT if is_best else QUIET, markersize=8 if is_best else 6)
            axes.annotate(
                str(trial.number), (x, y), xytext=(6, 5), textcoords="offset points",
                fontsize=8.5, color=INK if is_best else FAINT,
            )  # fmt: skip
        line = sorted(
            (_shown(t, second), _shown(t, first)) for t in trials if t.number in best
        )
        axes.plot([x for x, _ in line], [y for _, y in line], color=STUDENT, linewidth=1.2)
        axes.set_xlabel(metric_title(second.metric))
        axes.set_title(metric_title(first.metric))
        axes.margins(0.1)
        return picture(
            figure,
            name="pareto-front",
            caption="Numbers are trials. On the line no other trial is better in both objectives.",
            alt="Pareto front of two objectives",
        )


def front_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Trials that no other one beats in one objective without losing in another."""
    return [
        trial
        for trial in trials
        if not any(_dominates(other, trial, objectives) for other in trials)
    ]


def _dominates(one: Trial, other: Trial, objectives: Sequence[Objective]) -> bool:
    pairs = [(_shown(one, o), _shown(other, o), o.goal) for o in objectives]
    signed = [(a - b) * (1 if goal == "max" else -1) for a, b, goal in pairs]
    return all(step >= 0 for step in signed) and any(step > 0 for step in signed)


def _shown(trial: Trial, objective: Objective) -> float:
    value = trial.value(objective)
    assert value is not None
    return value * (100.0 if is_ap(objective.metric) else 1.0)


def _is_number(value: Scalar | None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(trial: Trial, path: str) -> float:
    return float(trial.values[path])


def _cells_picture(
    search: Search,
    trials: Sequence[Trial],
    axes_of: tuple[str, str],
    sides: Sequence[Sequence[float]],
) -> Picture:
    by_cell: dict[tuple[int, int], list[Trial]] = {}
    for trial in trials:
        x, y = (sides[axis].index(_number(trial, path)) for axis, path in enumerate(axes_of))
        by_cell.setdefault((x, y), []).append(trial)
    with sheet(0.95 + 0.52 * len(sides[1])) as (figure, (axes,)):
        for cell, here in by_cell.items():
            _draw_cell(axes, cell, here, search)
        axes.set_xticks(range(len(sides[0])), [scalar(value) for value in sides[0]])
        axes.set_yticks(range(len(sides[1])), [scalar(value) for value in sides[1]])
        axes.set_xlim(-0.55, len(sides[0]) - 0.45)
        axes.set_ylim(-0.55, len(sides[1]) - 0.45)
        axes.grid(visible=False)
        _finish_map(figure, axes, search, axes_of)
        return picture(
            figure,
            name="weights",
            caption=f"{search.title} of each pair of weights, the mean where several trials have "
            "it. Outlined cells are not told apart from the best by the noise floor.",
            alt="Heat map over the two weights",
        )


def _draw_cell(
    axes: Axes, cell: tuple[int, int], here: Sequence[Trial], search: Search
) -> None:
    x, y = cell
    value = float(np.mean([search.shown(trial) for trial in here]))
    colour = colour_map()(search.scale(value))
    is_equal = any(trial.number in search.equals for trial in here)
    axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, linewidth=0))
    if is_equal:
        axes.add_patch(
            Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, edgecolor=INK, linewidth=2.6)
        )
    red, green, blue, _ = colour
    is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < _DARK
    axes.text(
        x,
        y,
        f"{value:.1f}" if search.factor > 1 else f"{value:.3g}",
        ha="center",
        va="center",
        color="#ffffff" if is_dark else "#10151c",
        fontweight="bold" if is_equal else "normal",
    )


def _points_picture(
    search: Search, trials: Sequence[Trial], axes_of: tuple[str, str]
) -> Picture:
    with sheet(4.2) as (figure, (axes,)):
        for trial in search.others:
            if all(_is_number(trial.values.get(path)) for path in axes_of):
                x, y = (_number(trial, path) for path in axes_of)
                axes.plot(x, y, "x", color=QUIET, markersize=6, markeredgewidth=1.4)
        for trial in trials:
            x, y = (_number(trial, path) for path in axes_of)
            colour = colour_map()(search.scale(search.shown(trial)))
            if trial.number in search.equals:
                axes.plot(x, y, "o", color=INK, markersize=17)
                axes.plot(x, y, "o", color=PAPER, markersize=14)
            axes.plot(x, y, "o", color=colour, markersize=10.5)
        for set_scale, path, values in (
            (axes.set_xscale, axes_of[0], [_number(trial, axes_of[0]) for trial in trials]),
            (axes.set_yscale, axes_of[1], [_number(trial, axes_of[1]) for trial in trials]),
        ):
            if isinstance(search.space[path], LogUniform):
                _set_log(set_scale, values)
        axes.margins(0.09)
        _finish_map(figure, axes, search, axes_of)
        crosses = " Crosses are trials that did not train to their end." if search.others else ""
        return picture(
            figure,
            name="weights",
            caption=f"Each point is a trial, coloured by {search.title}. Ringed points are not told "
            f"apart from the best by the noise floor.{crosses}",
            alt="Trials over the two weights",
        )


def _set_log(set_scale: object, values: Sequence[float]) -> None:
    """By magnitude; a weight of 0, which a first trial may have, keeps a place beside them."""
    assert callable(set_scale)
    if min(values) > 0:
        set_scale("log")
    else:
        smallest = min((value for value in values if value > 0), default=1.0)
        set_scale("symlog", linthresh=smallest)


def _finish_map(
    figure: Figure, axes: Axes, search: Search, axes_of: tuple[str, str]
) -> None:
    axes.set_xlabel(search.names.get(axes_of[0], axes_of[0]))
    axes.set_ylabel(search.names.get(axes_of[1], axes_of[1]))
    for spine in axes.spines.values():
        spine.set_visible(False)
    mappable = ScalarMappable(search.scale, colour_map())
    bar = figure.colorbar(mappable, ax=axes, aspect=28, pad=0.02)
    bar.ax.set_title(search.title, fontsize=9.5, fontweight="normal")
    bar.outline.set_visible(False)  # type: ignore[operator]


@dataclass(frozen=True)
class _Ladder:
    """One parameter's vertical axis, from 0 to 1."""

    words: tuple[str, ...]
    """Values that are no numbers, or none."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, path: str, search: Search) -> "_Ladder":
        """Over the values that the trials have."""
        seen = [trial.values[path] for trial in search.trials if path in trial.values]
        if not seen or not all(_is_number(value) for value in seen):
            words = tuple(dict.fromkeys(scalar(value) for value in sorted(seen, key=str)))
            return cls(words or ("",), 0.0, 1.0, is_log=False)
        numbers = [float(value) for value in seen]
        is_log = isinstance(search.space[path], LogUniform) and min(numbers) > 0
        return cls((), min(numbers), max(numbers), is_log)

    def height(self, value: Scalar | None) -> float:
        """Where a value stands; not a number for a trial without the parameter."""
        if value is None:
            return float("nan")
        if self.words:
            return self._step(self.words.index(scalar(value)))
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
            return [(0.5, scalar(self.low))]
        return [(0.0, scalar(self.low)), (1.0, scalar(self.high))]

    def _step(self, index: int) -> float:
        return 0.5 if len(self.words) == 1 else index / (len(self.words) - 1)


def _draw_line(axes: Axes, heights: Sequence[float], trial: Trial, search: Search) -> None:
    is_equal = trial.number in search.equals
    xs, ys = _smooth(heights)
    axes.plot(
        xs,
        ys,
        color=colour_map()(search.scale(search.shown(trial))),
        linewidth=2.6 if is_equal else 1.2,
        alpha=1.0 if is_equal else 0.6,
        zorder=3 if is_equal else 2,
    )


def _smooth(heights: Sequence[float]) -> tuple[list[float], list[float]]:
    """A line that leaves and reaches every axis level, so that lines are followed by eye."""
    xs, ys = [], []
    for place, (here, there) in enumerate(pairwise(heights)):
        for step in np.linspace(0.0, 1.0, 13):
            xs.append(place + float(step))
            ys.append(here + (there - here) * float(3 * step**2 - 2 * step**3))
    return xs, ys


def _draw_objective_ticks(axes: Axes, place: int, search: Search) -> None:
    low, high = search.scale.vmin, search.scale.vmax
    for height, value in ((0.0, low), (1.0, high)):
        axes.annotate(
            f"{value:.1f}" if search.factor > 1 else f"{value:.3g}",
            (place, height),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
