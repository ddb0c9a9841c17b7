"""Plots of runs: learning curves, gain by part, importance of parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from configs.metric_keys import Metric
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

_MAX_CURVES = 40
_MAX_POINTS = 120
_ROW_IN, _FRAME_IN = 0.34, 0.7
_BARS_FRAME_IN = 0.25

_HandleT = TypeVar("_HandleT")

_LEGEND = (
    "teacher",
    "best trial",
    "not told apart from it",
    "other trials",
    "with distillation",
    "baseline",
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
    """Build the curves of evaluated runs, with at most `_MAX_POINTS` points each."""
    tied_numbers, curves = set(tied), []
    for run in runs:
        points = [
            (p.epoch, 100 * p.values[Metric.MAP]) for p in run.curve if Metric.MAP in p.values
        ]
        if not points:
            continue
        stride = -(-len(points) // _MAX_POINTS)
        sampled = [*points[:-1:stride], points[-1]]
        curves.append(
            RunCurve(
                tuple(epoch for epoch, _ in sampled),
                tuple(value for _, value in sampled),
                run,
                _curve_rank(run.trial, best=best, tied=tied_numbers),
            )
        )
    return curves


def plot_curves(curves: Sequence[RunCurve], *, teacher_map: float | None) -> Picture:
    """Plot mAP over epochs; baselines are dashed, the best trial is in the foreground."""
    visible_curves = sorted(curves, key=_drawing_order)[-_MAX_CURVES:]
    with open_figure(3.7) as (figure, (axes,)):
        for curve in visible_curves:
            _draw_curve(axes, curve)
        if teacher_map is not None:
            _draw_level(axes, 100 * teacher_map, "teacher")
        axes.set_xlabel("epoch")
        axes.set_title("mAP on the validation images")
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(*_order_legend(handles, labels), loc="best")
        num_hidden = len(curves) - len(visible_curves)
        return to_picture(
            figure,
            name="learning-curves",
            caption="Each line is a run; dashed lines are baselines."
            + (f" {num_hidden} more runs are left out of the picture." if num_hidden else ""),
            alt="Learning curves of the runs",
        )


def plot_parts(comparison: Comparison) -> Picture:
    """Plot the gain with its interval, for mAP and each of its parts."""
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
        axes.set_xlabel("points gained over the baseline, with the 95 % interval")
        axes.margins(x=0.12)
        return to_picture(
            figure,
            name="gain-by-part",
            caption="An interval that crosses the line at 0 is no evidence of a difference.",
            alt="Gain by part of mAP",
        )


def plot_importance(importance: Mapping[str, float], names: Mapping[str, str]) -> Picture:
    """Plot the importance of the parameters as bars, the largest on top."""
    sorted_shares = sorted(importance.items(), key=lambda item: -item[1])
    with open_figure(_BARS_FRAME_IN + _ROW_IN * len(sorted_shares)) as (figure, (axes,)):
        shares = [share for _, share in sorted_shares]
        axes.barh(range(len(sorted_shares)), shares, color=STUDENT, height=0.56)
        for row, share in enumerate(shares):
            axes.text(share + 0.008, row, format_percent(share), va="center", color=INK)
        axes.set_yticks(
            range(len(sorted_shares)), [names.get(path, path) for path, _ in sorted_shares]
        )
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(sorted_shares) - 0.5, -0.5)
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


def _curve_rank(trial: int | None, *, best: int | None, tied: set[int]) -> CurveRank:
    if trial is None or (best is None and not tied):
        return "other"
    return "best" if trial == best else "tied" if trial in tied else "other"


def _drawing_order(curve: RunCurve) -> int:
    """Sort key of a curve; later ones are drawn in front."""
    if curve.run.role == "baseline":
        return 2
    return {"other": 0, "tied": 1, "best": 3}[curve.rank]


def _draw_curve(axes: Axes, curve: RunCurve) -> None:
    label, color, width, opacity = _line_style(curve)
    is_baseline = curve.run.role == "baseline"
    axes.plot(
        curve.epochs,
        curve.values,
        color=color,
        linewidth=width,
        alpha=opacity,
        linestyle="--" if is_baseline else "-",
        marker="o" if len(curve.epochs) == 1 else None,
        label=label,
    )


def _line_style(curve: RunCurve) -> tuple[str, str, float, float]:
    """Label, color, width and opacity of a curve."""
    if curve.run.role == "baseline":
        return "baseline", BASELINE, 1.8, 1.0
    if curve.run.trial is None:
        return "with distillation", STUDENT, 2.2, 1.0
    styles = {
        "best": ("best trial", STUDENT, 2.6, 1.0),
        "tied": ("not told apart from it", STUDENT, 1.4, 0.7),
        "other": ("other trials", QUIET, 1.1, 0.8),
    }
    return styles[curve.rank]


def _draw_level(axes: Axes, value: float, title: str) -> None:
    axes.axhline(value, color=TEACHER, linewidth=1.4, linestyle=":", label=title)


def _order_legend(
    handles: Sequence[_HandleT], labels: Sequence[str]
) -> tuple[list[_HandleT], list[str]]:
    """Remove duplicate legend entries and put them in the order of `_LEGEND`."""
    by_label = dict(zip(labels, handles, strict=True))
    order = [label for label in _LEGEND if label in by_label]
    return [by_label[label] for label in order], order


def _draw_part(axes: Axes, row: int, comparison: Comparison, name: str) -> None:
    difference = comparison.parts[name]
    low, high = difference.low, difference.high
    mean = 100 * difference.difference
    color = FAINT
    if low is not None and high is not None:
        color = GOOD if low > 0 else BAD if high < 0 else FAINT
        axes.plot((100 * low, 100 * high), (row, row), color=color, linewidth=3.2)
    axes.plot(mean, row, "o", color=color, markersize=7.5, markeredgecolor=PAPER)
    axes.annotate(
        format_gain(difference.difference),
        (mean, row),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=INK,
    )
