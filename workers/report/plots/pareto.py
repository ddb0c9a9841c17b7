"""Pareto front of two objectives."""

from collections.abc import Sequence

from configs.spec.sweep import Objective
from workers.report.blocks import Picture
from workers.report.plots.style import FAINT, INK, QUIET, STUDENT, Canvas, draw_picture
from workers.report.results.trials import ReportTrial
from workers.report.wording import is_ap, metric_title


def plot_pareto_front(
    trials: Sequence[ReportTrial], objectives: tuple[Objective, Objective]
) -> Picture:
    """Plot two objectives against each other, with the Pareto front as a line."""
    best = {trial.number for trial in pareto_front(trials, objectives)}
    first, second = objectives

    def draw(canvas: Canvas) -> None:
        (axes,) = canvas.plots
        for trial in trials:
            x, y = (_display_value(trial, objective) for objective in (second, first))
            is_best = trial.number in best
            axes.plot(
                x, y, "o", color=STUDENT if is_best else QUIET, markersize=8 if is_best else 6
            )
            axes.annotate(
                str(trial.number), (x, y), xytext=(6, 5), textcoords="offset points",
                fontsize=8.5, color=INK if is_best else FAINT,
            )  # fmt: skip
        line = sorted(
            (_display_value(t, second), _display_value(t, first))
            for t in trials
            if t.number in best
        )
        axes.plot([x for x, _ in line], [y for _, y in line], color=STUDENT, linewidth=1.2)
        axes.set_xlabel(metric_title(second.metric))
        axes.set_title(metric_title(first.metric))
        axes.margins(0.1)

    return draw_picture(
        draw,
        height_in=3.7,
        name="pareto-front",
        caption="Numbers are trials. On the line no other trial is better in both objectives.",
        alt="Pareto front of two objectives",
    )


def pareto_front(
    trials: Sequence[ReportTrial], objectives: Sequence[Objective]
) -> list[ReportTrial]:
    """The trials that no other trial dominates."""
    return [
        trial
        for trial in trials
        if not any(_dominates(other, trial, objectives) for other in trials)
    ]


def _dominates(first: ReportTrial, second: ReportTrial, objectives: Sequence[Objective]) -> bool:
    pairs = [(_display_value(first, o), _display_value(second, o), o.goal) for o in objectives]
    signed = [(a - b) * (1 if goal == "max" else -1) for a, b, goal in pairs]
    return all(step >= 0 for step in signed) and any(step > 0 for step in signed)


def _display_value(trial: ReportTrial, objective: Objective) -> float:
    value = trial.value(objective)
    assert value is not None
    return value * (100.0 if is_ap(objective.metric) else 1.0)
