"""Plots of the weights of distillation terms that are schedules or shares."""

import math
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes

from configs.metric_keys import MEASURED_SHARE_PREFIX, WEIGHT_PREFIX
from configs.protocol.report import ReportRun
from configs.spec.active_methods import (
    methods_by_field,
    moving_weights,
    own_methods,
    terms_by_weight,
)
from configs.spec.distillation import Distillation
from configs.spec.installed_methods import InstalledMethod
from configs.spec.weights import WeightShare
from workers.report.blocks import Picture
from workers.report.plots.metric_curves import (
    MetricCurve,
    curve_color,
    draw_metric_curves,
    finish_epoch_plot,
    mean_curves,
)
from workers.report.plots.style import FAINT, Canvas, draw_picture, set_log_scale

_MAX_LINEAR_RATIO = 10.0
"""Weights that differ by a larger factor have a log axis."""

_REQUESTED = "requested"


def plot_moving_weights(runs: Sequence[ReportRun]) -> Picture | None:
    """Plot the weights that move, and beside them the measured and the requested shares.

    Runs that were measured at other steps than the first one are left out of the means. None if no
    distilled run has a weight that moves.
    """
    moving = [run for run in runs if run.role == "distilled" and run.weights]
    weights = mean_curves([run.weights for run in moving], prefix=WEIGHT_PREFIX)
    shares = mean_curves([run.weights for run in moving], prefix=MEASURED_SHARE_PREFIX)
    if not weights:
        return None
    requested = requested_shares(moving[0].spec.distillation)

    def draw(canvas: Canvas) -> None:
        _draw_weights(canvas.plots[0], weights)
        if shares:
            _draw_shares(canvas.plots[1], weights, shares, requested)

    return draw_picture(
        draw,
        height_in=3.1,
        num_plots=2 if shares else 1,
        name="moving-weights",
        caption=_describe(weights, num_runs=len(moving), has_shares=bool(shares)),
        alt="Weights of the distillation terms over epochs",
    )


def requested_shares(distillation: Distillation) -> list[tuple[str | None, float]]:
    """The share that each weight follows, with its loss term (without `loss_`).

    The term is None for a method of another package, which alone knows it.
    """
    return [*_shares_of_own_methods(distillation), *_shares_of_installed_methods(distillation)]


def _shares_of_own_methods(distillation: Distillation) -> Iterator[tuple[str, float]]:
    methods = own_methods(distillation)
    terms = terms_by_weight(methods)
    for field, weight in moving_weights(methods).items():
        if isinstance(weight, WeightShare):
            yield terms[field], weight.share


def _shares_of_installed_methods(distillation: Distillation) -> Iterator[tuple[None, float]]:
    for method in methods_by_field(distillation).values():
        if isinstance(method, InstalledMethod):
            for value in method.fields.values():
                share = value.get("share") if isinstance(value, Mapping) else None
                if isinstance(share, float):
                    yield None, share


def _draw_weights(axes: Axes, weights: Mapping[str, MetricCurve]) -> None:
    values = [value for curve in weights.values() for value in curve.values]
    positive = [value for value in values if value > 0]
    is_log = bool(positive) and max(positive) > _MAX_LINEAR_RATIO * min(positive)
    if is_log:
        set_log_scale(axes, 1, positive)
        weights = {name: _without_zeros(curve) for name, curve in weights.items()}
    draw_metric_curves(axes, weights)
    if not is_log:
        axes.set_ylim(bottom=0.0)
    finish_epoch_plot(axes, title="Weights")


def _without_zeros(curve: MetricCurve) -> MetricCurve:
    return MetricCurve(curve.epochs, tuple(value or math.nan for value in curve.values))


def _draw_shares(
    axes: Axes,
    weights: Mapping[str, MetricCurve],
    shares: Mapping[str, MetricCurve],
    requested: Sequence[tuple[str | None, float]],
) -> None:
    """A share has the color of its weight; the legend of the weights names the terms."""
    names = list(weights)
    colors = {name: curve_color(index) for index, name in enumerate(names)}
    for name, curve in shares.items():
        axes.plot(curve.epochs, curve.values, color=colors.get(name, FAINT), label=name)
    for term, share in requested:
        color = FAINT if term is None else colors.get(term, FAINT)
        axes.axhline(share, color=color, linestyle="--", linewidth=1.2, label=_REQUESTED)
    axes.set_ylim(bottom=0.0)
    finish_epoch_plot(axes, title="Shares of the gradient")


def _describe(weights: Mapping[str, MetricCurve], *, num_runs: int, has_shares: bool) -> str:
    sentences = ["The weights of the distillation terms that a schedule or a share moves."]
    if any(value == 0.0 for curve in weights.values() for value in curve.values):
        sentences.append("A weight of 0, whose term is not computed, has no line on a log axis.")
    if has_shares:
        sentences.append("Dashed lines are the requested shares, the others the measured ones.")
    if num_runs > 1:
        sentences.append(f"Lines are means over {num_runs} runs.")
    return " ".join(sentences)
