"""The sections of a sweep: its trials, its weights, its parameters, what it saved."""

from collections.abc import Iterator

from configs.protocol.names import Metric
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
    floor_between,
    get_objective,
    get_space,
    rank_finished,
)
from workers.report.wording import (
    format_count,
    format_duration,
    format_gain,
    format_metric,
    format_percent,
    format_scalar,
    is_ap,
    join_words,
    metric_title,
    shorten_paths,
)

_PAIR = 2
_MOST_ROWS = 100
_RESULTS = {
    "finished": "to its end",
    "stopped": "stopped by the scheduler",
    "failed": "failed",
    "cancelled": "cancelled",
    None: "goes on",
}


def build_search_results(dossier: ReportInputs, report: Report) -> SearchResults:
    """A sweep's trials as pictures need them."""
    trials, objective = build_report_trials(dossier), get_objective(dossier)
    whole = rank_finished(trials, objective)
    ends = {trial.number for trial in whole}
    space = get_space(dossier)
    return SearchResults(
        trials=whole,
        other_trials=[trial for trial in trials if trial.number not in ends],
        space=space,
        objective=objective,
        best=report.best_trial,
        tied=report.tied_with_best,
        names=shorten_paths(list(space)),
        floor=_floor(whole, objective, report),
    )


def sweep_sections(dossier: ReportInputs, report: Report) -> tuple[Section, ...]:
    """In the order of the page."""
    search = build_search_results(dossier, report)
    return (
        Section("trials", "The trials", tuple(_ranking(search, report))),
        Section("weights", "Over the two weights", (_weights(search),)),
        Section("parameters", "All parameters", (_parallel(search),)),
        Section("importance", "What mattered", tuple(_importance(search, report))),
        Section("stopped", "What stopping early saved", tuple(_stopped(dossier, report))),
        Section("front", "One objective against the other", (_front(dossier, search),)),
    )


def _floor(whole: list[ReportTrial], objective: Objective, report: Report) -> float | None:
    """In points, for trials of as many seeds as the best one has."""
    if report.noise is None or not whole or objective.metric != Metric.MAP:
        return None
    return 100 * floor_between(whole[0], whole[0], report.noise)


def _ranking(search: SearchResults, report: Report) -> Iterator[Block]:
    if not search.trials and not search.other_trials:
        yield Placeholder("The sweep has no trials yet.")
        return
    yield Paragraph(_about_order(search, report))
    equals = [t for t in search.trials if t.number in search.best_and_tied]
    equals.sort(key=lambda trial: trial.number)
    behind = [t for t in search.trials if t.number not in search.best_and_tied]
    titles = [Column("trial", is_number=True), Column("standing")]
    titles += [Column(search.names[path], is_number=True) for path in search.space]
    titles += [Column(search.title, is_number=True), Column("seeds", is_number=True)]
    titles += [Column("epochs", is_number=True), Column("trained")]
    rows = [
        Row(
            tuple(_trial_cells(trial, search, report)),
            is_marked=trial.number in search.best_and_tied,
        )
        for trial in (*equals, *behind, *search.other_trials)
    ]
    yield Table(tuple(titles), tuple(rows[:_MOST_ROWS]))
    if len(rows) > _MOST_ROWS:
        yield Paragraph(f"{len(rows) - _MOST_ROWS} more trials are to be found over the API.")


def _about_order(search: SearchResults, report: Report) -> str:
    if report.best_trial is None:
        return "No trial has trained to its end yet, so there is no best one."
    if len(search.trials) == 1:
        return f"Only trial {report.best_trial} has trained to its end, so nothing is compared."
    if search.objective.metric != Metric.MAP:
        return (
            f"Ordered by {search.title}. The noise floor is one of mAP, so small differences here "
            "may be chance."
        )
    if search.floor is None:
        return (
            "Ordered by mAP. The noise floor is unknown, so this is an order of numbers, not of "
            "quality: small differences may be chance."
        )
    if not report.tied_with_best:
        return (
            f"Trial {report.best_trial} is ahead of every other one by more than the noise floor "
            f"of {search.floor:.1f} mAP."
        )
    equals = sorted(search.best_and_tied)
    return (
        f"Trials {join_words(equals)} are not told apart: they lie within the noise floor of "
        f"{search.floor:.1f} mAP of the highest number, and are in no order. The others "
        "are ordered by mAP."
    )


def _trial_cells(trial: ReportTrial, search: SearchResults, report: Report) -> Iterator[Cell]:
    value = trial.value(search.objective)
    standing, tone = _standing(trial, search, report)
    yield Cell(str(trial.number))
    yield Cell(standing, tone=tone)
    for path in search.space:
        yield Cell(format_scalar(trial.values[path]) if path in trial.values else "")
    yield Cell("" if value is None else format_metric(search.objective.metric, value))
    yield Cell(str(trial.seeds))
    yield Cell(f"{trial.epoch} of {trial.epochs}")
    share = trial.epoch / trial.epochs if trial.epochs else None
    faint: Tone | None = None if trial.result == "finished" else "faint"
    yield Cell(_RESULTS[trial.result], share=share, tone=faint)


def _standing(trial: ReportTrial, search: SearchResults, report: Report) -> tuple[str, Tone | None]:
    if trial.result != "finished":
        return "", None
    if trial.number in search.best_and_tied and report.tied_with_best:
        return "not told apart", "strong"
    if trial.number == report.best_trial:
        return "first by its number" if search.floor is None else "ahead", "strong"
    return _behind(trial, search), None


def _behind(trial: ReportTrial, search: SearchResults) -> str:
    """By how much the best trial is ahead."""
    best = next((t for t in search.trials if t.number == search.best), None)
    ours = trial.value(search.objective)
    theirs = None if best is None else best.value(search.objective)
    if ours is None or theirs is None:
        return ""
    return format_gain(ours - theirs) if is_ap(search.objective.metric) else f"{ours - theirs:+.3g}"


def _weights(search: SearchResults) -> Block:
    axes = weight_axes(search.space)
    if axes is None:
        return Placeholder("This sweep does not vary both weights of BCKD.")
    return plot_weights(search, axes) or Placeholder("No trial has trained to its end yet.")


def _parallel(search: SearchResults) -> Block:
    if len(search.trials) < _PAIR:
        return Placeholder("Fewer than two trials have trained to their end.")
    return plot_parallel_coordinates(search)


def _importance(search: SearchResults, report: Report) -> Iterator[Block]:
    if not report.importance:
        yield Placeholder(
            "It takes at least four trials that trained to their end, and parameters and numbers "
            "that differ among them."
        )
        return
    yield plot_importance(report.importance, search.names)
    yield Paragraph(
        f"From {format_count(len(search.trials), 'trial')}: a rough measure, and one of this range of "
        "values only. A parameter that is left out did not vary, or not all trials have it."
    )


def _stopped(dossier: ReportInputs, report: Report) -> Iterator[Block]:
    assert dossier.sweep is not None
    if isinstance(dossier.sweep.scheduler, NoScheduler):
        yield Placeholder("This sweep has no scheduler: every trial trains to its end.")
        return
    trials = build_report_trials(dossier)
    stopped = [trial for trial in trials if trial.result == "stopped"]
    if not stopped:
        yield Placeholder("The scheduler has stopped no trial.")
        return
    whole = report.epochs_trained + report.epochs_saved
    saved_s = sum(filter(None, (_saved_s(trial, dossier) for trial in stopped)))
    time = f", about {format_duration(saved_s)} of steps" if saved_s else ""
    yield Paragraph(
        f"The scheduler ({dossier.sweep.scheduler.kind}) stopped {len(stopped)} of "
        f"{format_count(len(trials), 'trial')}: {format_count(report.epochs_trained, 'epoch')} were trained "
        f"instead of {whole}, which saved {report.epochs_saved} "
        f"({format_percent(report.epochs_saved / whole)}){time}."
    )
    yield _stopped_table(stopped, dossier)


def _stopped_table(stopped: list[ReportTrial], dossier: ReportInputs) -> Table:
    objective = get_objective(dossier)
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
    for trial in stopped[:_MOST_ROWS]:
        value, saved_s = trial.value(objective), _saved_s(trial, dossier)
        share = trial.epoch / trial.epochs if trial.epochs else 0.0
        cells = (
            Cell(str(trial.number)),
            Cell(f"{trial.epoch} of {trial.epochs}"),
            Cell("" if value is None else format_metric(objective.metric, value)),
            Cell(str(epochs_saved(trial))),
            Cell("" if saved_s is None else format_duration(saved_s)),
            Cell(format_percent(share), share=share),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows))


def _saved_s(trial: ReportTrial, dossier: ReportInputs) -> float | None:
    """What the epochs that were not trained would have taken of the student's own steps.

    The teacher's looks and the loading are not counted: others of its pack may have needed them.
    """
    if dossier.costs is None or dossier.sweep is None:
        return None
    costs, evaluation = dossier.costs, dossier.sweep.base.evaluation
    epoch_s = costs.steps_per_epoch * costs.student_s
    return epochs_saved(trial) * (epoch_s + costs.evaluation_s / evaluation.every_epochs)


def _front(dossier: ReportInputs, search: SearchResults) -> Block:
    assert dossier.sweep is not None
    objectives = dossier.sweep.objectives
    if len(objectives) != _PAIR:
        return Placeholder(f"This sweep has {format_count(len(objectives), 'objective')}, not two.")
    known = [t for t in search.trials if all(t.value(o) is not None for o in objectives)]
    if len(known) < _PAIR or not pareto_front(known, objectives):
        return Placeholder("Fewer than two trials have numbers for both objectives.")
    return plot_pareto_front(known, (objectives[0], objectives[1]))


def closing_reason(dossier: ReportInputs) -> str | None:
    """Why the search ended; none: it goes on, or there is none."""
    ends = [entry.why for entry in dossier.entries if isinstance(entry, SweepClosed)]
    return ends[-1] if ends else None
