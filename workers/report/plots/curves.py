"""Pictures of runs: learning curves, the gain part by part, shares of parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from configs.protocol.names import Metric
from configs.protocol.report import MAP_PARTS, Comparison, ReportRun
from workers.report.blocks import Picture
from workers.report.plots.style import (
    BAD,
    BASELINE,
    FAINT,
    GOOD,
    INK,
    PAPER,
    QUIET,
    STUDENT,
    TEACHER,
    open_figure,
    to_picture,
)
from workers.report.wording import PART_TITLES, format_gain, format_percent

_MOST_CURVES = 40
_MOST_POINTS = 120
_ROW_IN, _FRAME_IN = 0.34, 0.7
_BARS_FRAME_IN = 0.25

_Handle = TypeVar("_Handle")

_LEGEND = (
    "teacher",
    "best trial",
    "not told apart from it",
    "other trials",
    "with distillation",
    "student alone",
)

CurveRank = Literal["best", "tied", "other"]


@dataclass(frozen=True)
class RunCurve:
    """One run's mAP in points over epochs."""

    epochs: tuple[float, ...]
    values: tuple[float, ...]
    run: ReportRun
    rank: CurveRank = "other"


def build_curves(
    runs: Iterable[ReportRun], *, best: int | None, tied: Iterable[int]
) -> list[RunCurve]:
    """Those that were evaluated, thinned to what a picture can show."""
    equal, curves = set(tied), []
    for run in runs:
        points = [
            (p.epoch, 100 * p.values[Metric.MAP]) for p in run.curve if Metric.MAP in p.values
        ]
        if not points:
            continue
        every = -(-len(points) // _MOST_POINTS)
        kept = [*points[:-1:every], points[-1]]
        curves.append(
            RunCurve(
                tuple(epoch for epoch, _ in kept),
                tuple(value for _, value in kept),
                run,
                _standing(run.trial, best=best, tied=equal),
            )
        )
    return curves


def plot_curves(curves: Sequence[RunCurve], *, teacher_map: float | None) -> Picture:
    """mAP over epochs; baselines dashed, the best in the foreground."""
    drawn = sorted(curves, key=_depth)[-_MOST_CURVES:]
    with open_figure(3.7) as (figure, (axes,)):
        for curve in drawn:
            _draw_curve(axes, curve)
        if teacher_map is not None:
            _level(axes, 100 * teacher_map, "teacher")
        axes.set_xlabel("epoch")
        axes.set_title("mAP on the validation images")
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(*_in_order(handles, labels), loc="best")
        left = len(curves) - len(drawn)
        return to_picture(
            figure,
            name="learning-curves",
            caption="Each line is a run; dashed lines are students alone."
            + (f" {left} more runs are left out of the picture." if left else ""),
            alt="Learning curves of the runs",
        )


def plot_parts(comparison: Comparison) -> Picture:
    """The gain with its interval, for mAP and each of its parts."""
    names = [name for name in MAP_PARTS if name in comparison.parts]
    with open_figure(_FRAME_IN + _ROW_IN * len(names)) as (figure, (axes,)):
        axes.axvline(0.0, color=INK, linewidth=1.0)
        for row, name in enumerate(names):
            _draw_part(axes, row, comparison, name)
        axes.set_yticks(range(len(names)), [PART_TITLES[name] for name in names])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("points gained over the student alone, with the 95 % interval")
        axes.margins(x=0.12)
        return to_picture(
            figure,
            name="gain-by-part",
            caption="An interval that crosses the line at 0 is no evidence of a difference.",
            alt="Gain by part of mAP",
        )


def plot_importance(importance: Mapping[str, float], names: Mapping[str, str]) -> Picture:
    """Shares of parameters as bars, the largest on top."""
    ordered = sorted(importance.items(), key=lambda item: -item[1])
    with open_figure(_BARS_FRAME_IN + _ROW_IN * len(ordered)) as (figure, (axes,)):
        shares = [share for _, share in ordered]
        axes.barh(range(len(ordered)), shares, color=STUDENT, height=0.56)
        for row, share in enumerate(shares):
            axes.text(share + 0.008, row, format_percent(share), va="center", color=INK)
        axes.set_yticks(range(len(ordered)), [names.get(path, path) for path, _ in ordered])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(ordered) - 0.5, -0.5)
        axes.set_xlim(0.0, max(shares) * 1.12)
        axes.grid(visible=False)
        axes.set_xticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return to_picture(
            figure,
            name="importance",
            caption="Share of the objective's variance over the trials (functional ANOVA).",
            alt="Importance of the parameters",
        )


def _standing(trial: int | None, *, best: int | None, tied: set[int]) -> CurveRank:
    if trial is None or (best is None and not tied):
        return "other"
    return "best" if trial == best else "tied" if trial in tied else "other"


def _depth(curve: RunCurve) -> int:
    """What is drawn later lies in front."""
    if curve.run.role == "baseline":
        return 2
    return {"other": 0, "tied": 1, "best": 3}[curve.rank]


def _draw_curve(axes: Axes, curve: RunCurve) -> None:
    label, color, width, opacity = _look(curve)
    is_alone = curve.run.role == "baseline"
    axes.plot(
        curve.epochs,
        curve.values,
        color=color,
        linewidth=width,
        alpha=opacity,
        linestyle="--" if is_alone else "-",
        marker="o" if len(curve.epochs) == 1 else None,
        label=label,
    )


def _look(curve: RunCurve) -> tuple[str, str, float, float]:
    """Label, colour, width and opacity."""
    if curve.run.role == "baseline":
        return "student alone", BASELINE, 1.8, 1.0
    if curve.run.trial is None:
        return "with distillation", STUDENT, 2.2, 1.0
    looks = {
        "best": ("best trial", STUDENT, 2.6, 1.0),
        "tied": ("not told apart from it", STUDENT, 1.4, 0.7),
        "other": ("other trials", QUIET, 1.1, 0.8),
    }
    return looks[curve.rank]


def _level(axes: Axes, value: float, title: str) -> None:
    axes.axhline(value, color=TEACHER, linewidth=1.4, linestyle=":", label=title)


def _in_order(handles: Sequence[_Handle], labels: Sequence[str]) -> tuple[list[_Handle], list[str]]:
    """A legend's entries, each once, as they lie above each other at the end of training."""
    by_label = dict(zip(labels, handles, strict=True))
    order = [label for label in _LEGEND if label in by_label]
    return [by_label[label] for label in order], order


def _draw_part(axes: Axes, row: int, comparison: Comparison, name: str) -> None:
    difference = comparison.parts[name]
    low, high = difference.low, difference.high
    middle = 100 * difference.difference
    color = FAINT
    if low is not None and high is not None:
        color = GOOD if low > 0 else BAD if high < 0 else FAINT
        axes.plot((100 * low, 100 * high), (row, row), color=color, linewidth=3.2)
    axes.plot(middle, row, "o", color=color, markersize=7.5, markeredgecolor=PAPER)
    axes.annotate(
        format_gain(difference.difference),
        (middle, row),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=INK,
    )
