"""Sections of a sweep: its trials, weights, parameters and savings."""

from collections.abc import Iterator

from configs.metric_keys import Metric
from configs.protocol.report import Report, ReportInputs
from configs.protocol.sweep_log import SweepClosed
from configs.spec.search import NoScheduler
from configs.spec.sweep import Objective
from workers.report.blocks import (
    Block,
    Cell,
    Column,
    Paragraph,
    Placeholder,
    Row,
    Section,
    Table,
    Tone,
)
from workers.report.plots.curves import plot_importance
from workers.report.plots.parallel_coordinates import plot_parallel_coordinates
from workers.report.plots.pareto import pareto_front, plot_pareto_front
from workers.report.plots.trials import SearchResults
from workers.report.plots.weights import plot_weights, weight_axes
from workers.report.results.trials import (
    ReportTrial,
    build_report_trials,
    epochs_saved,
    get_objective,
    get_space,
    noise_floor_between,
    rank_finished,
)
from workers.report.wording import (
    MISSING,
    format_count,
    format_duration,
    format_gain,
    format_metric,
    format_percent,
    format_scalar,
    is_ap,
    join_items,
    metric_title,
    shorten_paths,
)

_MIN_TRIALS = 2
_MAX_ROWS = 100
_RESULTS = {
    "finished": "to its end",
    "stopped": "stopped by the scheduler",
    "failed": "failed",
    "cancelled": "cancelled",
    None: "running",
}


def build_search_results(inputs: ReportInputs, report: Report) -> SearchResults:
    """Collect a sweep's trials for its plots."""
    trials, objective = build_report_trials(inputs), get_objective(inputs)
    finished = rank_finished(trials, objective)
    finished_numbers = {trial.number for trial in finished}
    space = get_space(inputs)
    return SearchResults(
        trials=finished,
        other_trials=[trial for trial in trials if trial.number not in finished_numbers],
        space=space,
        objective=objective,
        best=report.best_trial,
        tied=report.tied_with_best,
        names=shorten_paths(list(space)),
        floor=_noise_floor(finished, objective, report),
    )


def sweep_sections(inputs: ReportInputs, report: Report) -> tuple[Section, ...]:
    """Build the sections of a sweep in the order of the page."""
    results = build_search_results(inputs, report)
    return (
        Section("trials", "The trials", tuple(_ranking(results, report))),
        Section("weights", "Over the two weights", (_weights(results),)),
        Section("parameters", "All parameters", (_parallel(results),)),
        Section("importance", "What mattered", tuple(_importance(results, report))),
        Section("stopped", "What stopping early saved", tuple(_stopped(inputs, report))),
        Section("front", "One objective against the other", (_front(inputs, results),)),
    )


def _noise_floor(finished: list[ReportTrial], objective: Objective, report: Report) -> float | None:
    """Noise floor in points, for trials with as many seeds as the best one."""
    if report.noise is None or not finished or objective.metric != Metric.MAP:
        return None
    return 100 * noise_floor_between(finished[0], finished[0], report.noise)


def _ranking(results: SearchResults, report: Report) -> Iterator[Block]:
    if not results.trials and not results.other_trials:
        yield Placeholder("The sweep has no trials yet.")
        return
    yield Paragraph(_describe_order(results, report))
    best_trials = [trial for trial in results.trials if trial.number in results.best_and_tied]
    best_trials.sort(key=lambda trial: trial.number)
    worse_trials = [trial for trial in results.trials if trial.number not in results.best_and_tied]
    titles = [Column("trial", is_number=True), Column("standing")]
    titles += [Column(results.names[path], is_number=True) for path in results.space]
    titles += [Column(results.title, is_number=True), Column("seeds", is_number=True)]
    titles += [Column("epochs", is_number=True), Column("trained")]
    rows = [
        Row(
            tuple(_trial_cells(trial, results, report)),
            is_marked=trial.number in results.best_and_tied,
        )
        for trial in (*best_trials, *worse_trials, *results.other_trials)
    ]
    yield Table(tuple(titles), tuple(rows[:_MAX_ROWS]))
    if len(rows) > _MAX_ROWS:
        yield Paragraph(f"{len(rows) - _MAX_ROWS} more trials are available in the API.")


def _describe_order(results: SearchResults, report: Report) -> str:
    if report.best_trial is None:
        return "No trial has trained to its end yet, so there is no best one."
    if len(results.trials) == 1:
        return f"Only trial {report.best_trial} has trained to its end, so nothing is compared."
    if results.objective.metric != Metric.MAP:
        return (
            f"Ordered by {results.title}. The noise floor is one of mAP, so small differences here "
            "may be chance."
        )
    if results.floor is None:
        return (
            "Ordered by mAP. The noise floor is unknown, so this is an order of numbers, not of "
            "quality: small differences may be chance."
        )
    if not report.tied_with_best:
        return (
            f"Trial {report.best_trial} is ahead of every other one by more than the noise floor "
            f"of {results.floor:.1f} mAP."
        )
    best_trials = sorted(results.best_and_tied)
    return (
        f"Trials {join_items(best_trials)} are not told apart: they lie within the noise floor of "
        f"{results.floor:.1f} mAP of the highest number, and are in no order. The others "
        "are ordered by mAP."
    )


def _trial_cells(trial: ReportTrial, results: SearchResults, report: Report) -> Iterator[Cell]:
    value = trial.value(results.objective)
    standing, tone = _describe_standing(trial, results, report)
    yield Cell(str(trial.number))
    yield Cell(standing, tone=tone)
    for path in results.space:
        yield Cell(format_scalar(trial.values[path]) if path in trial.values else MISSING)
    yield Cell(_format_value(value, results.objective))
    yield Cell(str(trial.seeds))
    yield Cell(f"{trial.epoch} of {trial.epochs}")
    share = trial.epoch / trial.epochs if trial.epochs else None
    faint: Tone | None = None if trial.result == "finished" else "faint"
    yield Cell(_RESULTS[trial.result], share=share, tone=faint)


def _describe_standing(
    trial: ReportTrial, results: SearchResults, report: Report
) -> tuple[str, Tone | None]:
    if trial.result != "finished":
        return MISSING, None
    if trial.number in results.best_and_tied and report.tied_with_best:
        return "not told apart", "strong"
    if trial.number == report.best_trial:
        return "first by its number" if results.floor is None else "ahead", "strong"
    return _gap_to_best(trial, results), None


def _format_value(value: float | None, objective: Objective) -> str:
    return MISSING if value is None else format_metric(objective.metric, value)


def _gap_to_best(trial: ReportTrial, results: SearchResults) -> str:
    """Difference from the best trial."""
    best = next((trial for trial in results.trials if trial.number == results.best), None)
    own_value = trial.value(results.objective)
    best_value = None if best is None else best.value(results.objective)
    if own_value is None or best_value is None:
        return MISSING
    return (
        format_gain(own_value - best_value)
        if is_ap(results.objective.metric)
        else f"{own_value - best_value:+.3g}"
    )


def _weights(results: SearchResults) -> Block:
    axes = weight_axes(results.space)
    if axes is None:
        return Placeholder("This sweep does not vary both weights of BCKD.")
    return plot_weights(results, axes) or Placeholder("No trial has trained to its end yet.")


def _parallel(results: SearchResults) -> Block:
    if len(results.trials) < _MIN_TRIALS:
        return Placeholder("Fewer than two trials have trained to their end.")
    return plot_parallel_coordinates(results)


def _importance(results: SearchResults, report: Report) -> Iterator[Block]:
    if not report.importance:
        yield Placeholder(
            "It takes at least four trials that trained to their end, and parameters and numbers "
            "that differ among them."
        )
        return
    yield plot_importance(report.importance, results.names)
    yield Paragraph(
        f"A rough estimate from {format_count(len(results.trials), 'trial')}, for this range of "
        "values only. A parameter that is left out did not vary, or not all trials have it."
    )


def _stopped(inputs: ReportInputs, report: Report) -> Iterator[Block]:
    assert inputs.sweep is not None
    if isinstance(inputs.sweep.scheduler, NoScheduler):
        yield Placeholder("This sweep has no scheduler: every trial trains to its end.")
        return
    trials = build_report_trials(inputs)
    stopped = [trial for trial in trials if trial.result == "stopped"]
    if not stopped:
        yield Placeholder("The scheduler has stopped no trial.")
        return
    total_epochs = report.epochs_trained + report.epochs_saved
    saved_time_s = sum(filter(None, (_estimate_saved_s(trial, inputs) for trial in stopped)))
    time_note = f", about {format_duration(saved_time_s)} of steps" if saved_time_s else ""
    yield Paragraph(
        f"The scheduler ({inputs.sweep.scheduler.kind}) stopped {len(stopped)} of "
        f"{format_count(len(trials), 'trial')}: {format_count(report.epochs_trained, 'epoch')} "
        f"were trained instead of {total_epochs}, which saved {report.epochs_saved} "
        f"({format_percent(report.epochs_saved / total_epochs)}){time_note}."
    )
    yield _stopped_table(stopped, inputs)


def _stopped_table(stopped: list[ReportTrial], inputs: ReportInputs) -> Table:
    objective = get_objective(inputs)
    title = metric_title(objective.metric)
    columns = (
        Column("trial", is_number=True),
        Column("stopped after epoch", is_number=True),
        Column(f"{title} by then", is_number=True),
        Column("epochs saved", is_number=True),
        Column("time saved", is_number=True),
        Column("trained"),
    )
    rows = []
    for trial in stopped[:_MAX_ROWS]:
        value, saved_time_s = trial.value(objective), _estimate_saved_s(trial, inputs)
        share = trial.epoch / trial.epochs if trial.epochs else 0.0
        cells = (
            Cell(str(trial.number)),
            Cell(f"{trial.epoch} of {trial.epochs}"),
            Cell(_format_value(value, objective)),
            Cell(str(epochs_saved(trial))),
            Cell(format_duration(saved_time_s)),
            Cell(format_percent(share), share=share),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows))


def _estimate_saved_s(trial: ReportTrial, inputs: ReportInputs) -> float | None:
    """Seconds that the student's own steps of the saved epochs would have taken.

    The teacher's forward passes and loading are not counted: the rest of the pack may share them.
    """
    if inputs.costs is None or inputs.sweep is None:
        return None
    costs, evaluation = inputs.costs, inputs.sweep.base.evaluation
    epoch_s = costs.steps_per_epoch * costs.student_s
    return epochs_saved(trial) * (epoch_s + costs.evaluation_s / evaluation.every_epochs)


def _front(inputs: ReportInputs, results: SearchResults) -> Block:
    assert inputs.sweep is not None
    objectives = inputs.sweep.objectives
    if len(objectives) != _MIN_TRIALS:
        return Placeholder(f"This sweep has {format_count(len(objectives), 'objective')}, not two.")
    rated_trials = [
        trial for trial in results.trials if all(trial.value(o) is not None for o in objectives)
    ]
    if len(rated_trials) < _MIN_TRIALS or not pareto_front(rated_trials, objectives):
        return Placeholder("Fewer than two trials have numbers for both objectives.")
    return plot_pareto_front(rated_trials, (objectives[0], objectives[1]))


def closing_reason(inputs: ReportInputs) -> str | None:
    """Why the search ended; None while it is running, or without a sweep."""
    ended_reasons = [entry.why for entry in inputs.entries if isinstance(entry, SweepClosed)]
    return ended_reasons[-1] if ended_reasons else None
