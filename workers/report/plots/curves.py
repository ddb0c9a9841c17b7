"""Plots of runs: learning curves, gain by part, importance of parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from configs.metric_keys import Metric
from configs.protocol.comparison import MAP_PARTS, Comparison
from configs.protocol.report import ReportRun, RunRole
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
    Canvas,
    draw_legend,
    draw_picture,
)
from workers.report.wording import PART_TITLES, format_gain, format_percent

_MAX_CURVES = 40
_MAX_POINTS = 120
_MAX_MARKERS = 40
_FAINT_OPACITY = 0.4
_MAX_TEACHER_DISTANCE = 0.75
"""Largest distance of the teacher's level from the curves that it shares an axis with, as a share
of their range."""

_ROW_IN, _FRAME_IN = 0.34, 0.7
_BARS_FRAME_IN = 0.25

_LEGEND = (
    "teacher",
    "best trial",
    "not told apart from it",
    "other trials",
    "with distillation",
    "control",
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


@dataclass(frozen=True)
class MeanCurve:
    """The mean of several runs' curves, in points of mAP over epochs."""

    epochs: tuple[float, ...]
    values: tuple[float, ...]
    role: RunRole
    num_runs: int


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
    means = build_mean_curves(visible_curves)

    def draw(canvas: Canvas) -> None:
        (axes,) = canvas.plots
        for curve in visible_curves:
            # There is no mean of controls, which may be of two kinds.
            _draw_curve(axes, curve, is_faint=bool(means) and curve.run.role != "control")
        for mean in means:
            _draw_mean(axes, mean)
        if teacher_map is not None:
            _draw_teacher(axes, 100 * teacher_map)
        axes.set_xlabel("epoch")
        axes.margins(x=0.04)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        draw_legend(axes, title="mAP on the validation images", order=_LEGEND)

    num_hidden = len(curves) - len(visible_curves)
    return draw_picture(
        draw,
        height_in=3.9,
        name="learning-curves",
        caption=_describe_curves(means, num_hidden=num_hidden),
        alt="Learning curves of the runs",
    )


def build_mean_curves(curves: Sequence[RunCurve]) -> list[MeanCurve]:
    """Mean curves of baselines and distilled runs over seeds; empty for a sweep or one seed."""
    if any(curve.run.trial is not None for curve in curves):
        return []
    means = []
    for role in ("baseline", "distilled"):
        members = [curve for curve in curves if curve.run.role == role]
        if len({curve.run.spec.seed for curve in members}) < 2:
            continue
        if len({curve.epochs for curve in members}) > 1:
            continue
        values = tuple(map(fmean, zip(*(curve.values for curve in members), strict=True)))
        means.append(MeanCurve(members[0].epochs, values, role, len(members)))
    return means


def plot_parts(comparison: Comparison) -> Picture:
    """Plot the gain with its interval, for mAP and each of its parts."""
    names = [name for name in MAP_PARTS if name in comparison.parts]

    def draw(canvas: Canvas) -> None:
        (axes,) = canvas.plots
        axes.axvline(0.0, color=INK, linewidth=1.0)
        for row, name in enumerate(names):
            _draw_part(axes, row, comparison, name)
        axes.set_yticks(range(len(names)), [PART_TITLES[name] for name in names])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(names) - 0.5, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("gain in mAP, 95 % interval")
        axes.margins(x=0.12)

    return draw_picture(
        draw,
        height_in=_FRAME_IN + _ROW_IN * len(names),
        name="gain-by-part",
        caption="Gain over the baseline in points of mAP (0 to 100), with its 95 % interval. An "
        "interval that crosses the line at 0 is no evidence of a difference.",
        alt="Gain by part of mAP",
    )


def plot_importance(importance: Mapping[str, float], names: Mapping[str, str]) -> Picture:
    """Plot the importance of the parameters as bars, the largest on top."""
    sorted_shares = sorted(importance.items(), key=lambda item: -item[1])
    shares = [share for _, share in sorted_shares]

    def draw(canvas: Canvas) -> None:
        (axes,) = canvas.plots
        axes.barh(range(len(shares)), shares, color=STUDENT, height=0.56)
        for row, share in enumerate(shares):
            axes.annotate(
                format_percent(share), (share, row), xytext=(4, 0), textcoords="offset points",
                va="center", color=INK,
            )  # fmt: skip
        axes.set_yticks(range(len(shares)), [names.get(path, path) for path, _ in sorted_shares])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(shares) - 0.5, -0.5)
        axes.set_xlim(0.0, max(shares) * (1.25 if canvas.is_narrow else 1.12))
        axes.grid(visible=False)
        axes.set_xticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)

    return draw_picture(
        draw,
        height_in=_BARS_FRAME_IN + _ROW_IN * len(shares),
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


def _draw_curve(axes: Axes, curve: RunCurve, *, is_faint: bool) -> None:
    """Draw a run's curve with a marker at each evaluation; `is_faint` if a mean stands for it."""
    label, color, width, opacity = _line_style(curve)
    axes.plot(
        curve.epochs,
        curve.values,
        color=color,
        linewidth=1.0 if is_faint else width,
        alpha=_FAINT_OPACITY if is_faint else opacity,
        linestyle="--" if curve.run.role == "baseline" else "-",
        marker="o" if len(curve.epochs) <= _MAX_MARKERS else None,
        markersize=3.0 if is_faint else 4.5,
        label=None if is_faint else label,
    )


def _draw_teacher(axes: Axes, level: float) -> None:
    """Draw the teacher's level, or name it at the edge if it would flatten the students' curves."""
    low, high = axes.get_ylim()
    if level <= high + _MAX_TEACHER_DISTANCE * (high - low):
        axes.axhline(level, color=TEACHER, linewidth=1.4, linestyle=":", label="teacher")
        return
    axes.annotate(
        f"teacher: {level:.1f}, above this range",
        (0.02, 0.97),
        xycoords="axes fraction",
        va="top",
        fontsize=9,
        color=TEACHER,
    )
    axes.margins(y=0.16)


def _draw_mean(axes: Axes, mean: MeanCurve) -> None:
    is_baseline = mean.role == "baseline"
    axes.plot(
        mean.epochs,
        mean.values,
        color=BASELINE if is_baseline else STUDENT,
        linewidth=2.4,
        linestyle="--" if is_baseline else "-",
        marker="o" if len(mean.epochs) <= _MAX_MARKERS else None,
        markersize=6.0,
        label="baseline" if is_baseline else "with distillation",
    )


def _describe_curves(means: Sequence[MeanCurve], *, num_hidden: int) -> str:
    lines = "Each line is a run, each point an evaluation; dashed lines are baselines."
    if means:
        num_seeds = max(mean.num_runs for mean in means)
        lines = (
            f"Bold lines are means over {num_seeds} seeds, thin lines single runs, points "
            "evaluations; baselines are dashed."
        )
    return lines + (f" {num_hidden} more runs are left out." if num_hidden else "")


def _line_style(curve: RunCurve) -> tuple[str, str, float, float]:
    """Label, color, width and opacity of a curve."""
    if curve.run.role == "baseline":
        return "baseline", BASELINE, 1.8, 1.0
    if curve.run.role == "control":
        return "control", QUIET, 1.4, 1.0
    if curve.run.trial is None:
        return "with distillation", STUDENT, 2.2, 1.0
    styles = {
        "best": ("best trial", STUDENT, 2.6, 1.0),
        "tied": ("not told apart from it", STUDENT, 1.4, 0.7),
        "other": ("other trials", QUIET, 1.1, 0.8),
    }
    return styles[curve.rank]


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
