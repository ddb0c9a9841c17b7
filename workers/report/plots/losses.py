"""Plots of the training losses of a distilled run and its baseline."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from configs.metric_keys import Metric, is_of_distillation
from configs.protocol.report import CurvePoint, ReportRun
from workers.report.blocks import Picture
from workers.report.plots.style import (
    BAD,
    BASELINE,
    GOOD,
    STUDENT,
    TEACHER,
    Canvas,
    draw_legend,
    draw_picture,
)

_TERM_PREFIX = f"{Metric.LOSS}_"
_TERM_COLORS = (STUDENT, TEACHER, GOOD, BAD)

_PointLoss = Callable[[CurvePoint], float | None]


@dataclass(frozen=True)
class LossCurve:
    """A loss over epochs, the mean over runs."""

    epochs: tuple[float, ...]
    values: tuple[float, ...]


def plot_losses(runs: Sequence[ReportRun]) -> Picture | None:
    """Plot the detector's own losses of both roles, and the distillation terms.

    None if no run has losses. Runs of one role that were measured at other steps than the first
    one are left out of its mean.
    """
    by_role = {
        role: [run for run in runs if run.role == role and run.losses]
        for role in ("baseline", "distilled")
    }
    own = {role: mean_curve(members, detector_loss) for role, members in by_role.items()}
    terms = dict(_distillation_curves(by_role["distilled"]))
    if not any(own.values()):
        return None

    def draw(canvas: Canvas) -> None:
        _draw_own(canvas.plots[0], baseline=own["baseline"], distilled=own["distilled"])
        if terms:
            _draw_terms(canvas.plots[1], terms)

    num_runs = max(map(len, by_role.values()))
    mean_note = f" Lines are means over {num_runs} runs." if num_runs > 1 else ""
    return draw_picture(
        draw,
        height_in=3.1,
        num_plots=2 if terms else 1,
        name="losses",
        caption="The detector's own losses, which both students have, and the distillation terms "
        f"with their weights, which only the distilled one has.{mean_note}",
        alt="Training losses over epochs",
    )


def detector_loss(point: CurvePoint) -> float | None:
    """Sum of the detector's own loss terms, without distillation; None if there are none."""
    own_terms = [
        value
        for key, value in point.values.items()
        if key.startswith(_TERM_PREFIX) and not is_distillation_term(key)
    ]
    return sum(own_terms) if own_terms else None


def is_distillation_term(key: str) -> bool:
    """Whether a metric key is that of a distillation term's loss."""
    return is_of_distillation(key.removeprefix(_TERM_PREFIX))


def mean_curve(runs: Sequence[ReportRun], loss: _PointLoss) -> LossCurve | None:
    """The mean of a loss over the runs that were measured at the same steps as the first one."""
    curves = []
    for run in runs:
        points = [(point.epoch, loss(point)) for point in run.losses]
        curves.append([(epoch, value) for epoch, value in points if value is not None])
    if not curves or not curves[0]:
        return None
    epochs = tuple(epoch for epoch, _ in curves[0])
    same = [curve for curve in curves if tuple(epoch for epoch, _ in curve) == epochs]
    values = tuple(fmean(value for _, value in points) for points in zip(*same, strict=True))
    return LossCurve(epochs, values)


def _distillation_curves(runs: Sequence[ReportRun]) -> Iterator[tuple[str, LossCurve]]:
    keys = {key for run in runs for point in run.losses for key in point.values}
    for key in sorted(filter(is_distillation_term, keys)):

        def term(point: CurvePoint, key: str = key) -> float | None:
            return point.values.get(key)

        if (curve := mean_curve(runs, term)) is not None:
            yield key.removeprefix(_TERM_PREFIX), curve


def _draw_own(axes: Axes, *, baseline: LossCurve | None, distilled: LossCurve | None) -> None:
    for curve, color, style, label in (
        (baseline, BASELINE, "--", "baseline"),
        (distilled, STUDENT, "-", "with distillation"),
    ):
        if curve is not None:
            axes.plot(curve.epochs, curve.values, color=color, linestyle=style, label=label)
    _finish_plot(axes, title="The detector's own losses")


def _draw_terms(axes: Axes, terms: dict[str, LossCurve]) -> None:
    for index, (name, curve) in enumerate(terms.items()):
        color = _TERM_COLORS[index % len(_TERM_COLORS)]
        style = "-" if index < len(_TERM_COLORS) else ":"
        axes.plot(curve.epochs, curve.values, color=color, linestyle=style, label=name)
    _finish_plot(axes, title="Distillation terms")


def _finish_plot(axes: Axes, *, title: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylim(bottom=0.0)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_legend(axes, title=title)
