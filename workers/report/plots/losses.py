"""Plots of the training losses of a distilled run and its baseline."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from configs.metric_keys import Metric, is_of_distillation
from configs.protocol.report import CurvePoint, ReportRun
from workers.report.blocks import Picture
from workers.report.plots.metric_curves import (
    MetricCurve,
    draw_metric_curves,
    finish_epoch_plot,
    mean_curve,
    mean_curves,
)
from workers.report.plots.style import (
    BASELINE,
    STUDENT,
    Canvas,
    draw_picture,
)

_TERM_PREFIX = f"{Metric.LOSS}_"


def plot_losses(runs: Sequence[ReportRun]) -> Picture | None:
    """Plot the detector's own losses of both roles, and the distillation terms.

    None if no run has losses. Runs of one role that were measured at other steps than the first
    one are left out of its mean.
    """
    by_role = {
        role: [run for run in runs if run.role == role and run.losses]
        for role in ("baseline", "distilled")
    }
    own = {
        role: mean_curve([run.losses for run in members], detector_loss)
        for role, members in by_role.items()
    }
    distilled_losses = [run.losses for run in by_role["distilled"]]
    curves = mean_curves(distilled_losses, prefix=_TERM_PREFIX)
    terms = {name: curve for name, curve in curves.items() if is_of_distillation(name)}
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


def _draw_own(axes: Axes, *, baseline: MetricCurve | None, distilled: MetricCurve | None) -> None:
    for curve, color, style, label in (
        (baseline, BASELINE, "--", "baseline"),
        (distilled, STUDENT, "-", "with distillation"),
    ):
        if curve is not None:
            axes.plot(curve.epochs, curve.values, color=color, linestyle=style, label=label)
    axes.set_ylim(bottom=0.0)
    finish_epoch_plot(axes, title="The detector's own losses")


def _draw_terms(axes: Axes, terms: dict[str, MetricCurve]) -> None:
    draw_metric_curves(axes, terms)
    axes.set_ylim(bottom=0.0)
    finish_epoch_plot(axes, title="Distillation terms")
