"""The sections of a sweep: its trials, its weights, its parameters, what it saved."""

from collections.abc import Iterator

from configs.protocol.names import Metric
from configs.protocol.report import Dossier, Report
from configs.protocol.sweep_log import Closed
from configs.spec.search import NoScheduler
from configs.spec.sweep import Objective
from workers.report.blocks import (
    Block,
    Cell,
    Column,
    Nothing,
    Row,
    Section,
    Table,
    Tone,
    Words,
)
from workers.report.plots.curves import importance_picture
from workers.report.plots.parallel_coordinates import parallel_picture
from workers.report.plots.pareto import front_of, front_picture
from workers.report.plots.trials import Search
from workers.report.plots.weights import weight_axes, weights_picture
from workers.report.results.trials import (
    Trial,
    epochs_saved,
    finished,
    floor_between,
    objective_of,
    space_of,
    trials_of,
)
from workers.report.wording import (
    counted,
    duration,
    gain,
    is_ap,
    listed,
    measured,
    metric_title,
    percent,
    scalar,
    short_names,
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


def search_of(dossier: Dossier, report: Report) -> Search:
    """A sweep's trials as pictures need them."""
    trials, objective = trials_of(dossier), objective_of(dossier)
    whole = finished(trials, objective)
    ends = {trial.number for trial in whole}
    space = space_of(dossier)
    return Search(
        trials=whole,
        others=[trial for trial in trials if trial.number not in ends],
        space=space,
        objective=objective,
        best=report.best_trial,
        tied=report.tied_with_best,
        names=short_names(list(space)),
        floor=_floor(whole, objective, report),
    )


def sweep_sections(dossier: Dossier, report: Report) -> tuple[Section, ...]:
    """In the order of the page."""
    search = search_of(dossier, report)
    return (
        Section("trials", "The trials", tuple(_ranking(search, report))),
        Section("weights", "Over the two weights", (_weights(search),)),
        Section("parameters", "All parameters", (_parallel(search),)),
        Section("importance", "What mattered", tuple(_importance(search, report))),
        Section("stopped", "What stopping early saved", tuple(_stopped(dossier, report))),
        Section("front", "One objective against the other", (_front(dossier, search),)),
    )


def _floor(whole: list[Trial], objective: Objective, report: Report) -> float | None:
    """In points, for trials of as many seeds as the best one has."""
    if report.noise is None or not whole or objective.metric != Metric.MAP:
        return None
    return 100 * floor_between(whole[0], whole[0], report.noise)


def _ranking(search: Search, report: Report) -> Iterator[Block]:
    if not search.trials and not search.others:
        yield Nothing("The sweep has no trials yet.")
        return
    yield Words(_about_order(search, report))
    equals = [t for t in search.trials if t.number in search.equals]
    equals.sort(key=lambda trial: trial.number)
    behind = [t for t in search.trials if t.number not in search.equals]
    titles = [Column("trial", is_number=True), Column("standing")]
    titles += [Column(search.names[path], is_number=True) for path in search.space]
    titles += [Column(search.title, is_number=True), Column("seeds", is_number=True)]
    titles += [Column("epochs", is_number=True), Column("trained")]
    rows = [
        Row(tuple(_trial_cells(trial, search, report)), is_marked=trial.number in search.equals)
        for trial in (*equals, *behind, *search.others)
    ]
    yield Table(tuple(titles), tuple(rows[:_MOST_ROWS]))
    if len(rows) > _MOST_ROWS:
        yield Words(f"{len(rows) - _MOST_ROWS} more trials are to be found over the API.")


def _about_order(search: Search, report: Report) -> str:
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
    equals = sorted(search.equals)
    return (
        f"Trials {listed(equals)} are not told apart: they lie within the noise floor of "
        f"{search.floor:.1f} mAP of the highest number, and are in no order. The others "
        "are ordered by mAP."
    )


def _trial_cells(trial: Trial, search: Search, report: Report) -> Iterator[Cell]:
    value = trial.value(search.objective)
    standing, tone = _standing(trial, search, report)
    yield Cell(str(trial.number))
    yield Cell(standing, tone=tone)
    for path in search.space:
        yield Cell(scalar(trial.values[path]) if path in trial.values else "")
    yield Cell("" if value is None else measured(search.objective.metric, value))
    yield Cell(str(trial.seeds))
    yield Cell(f"{trial.epoch} of {trial.epochs}")
    share = trial.epoch / trial.epochs if trial.epochs else None
    faint: Tone | None = None if trial.result == "finished" else "faint"
    yield Cell(_RESULTS[trial.result], share=share, tone=faint)


def _standing(trial: Trial, search: Search, report: Report) -> tuple[str, Tone | None]:
    if trial.result != "finished":
        return "", None
    if trial.number in search.equals and report.tied_with_best:
        return "not told apart", "strong"
    if trial.number == report.best_trial:
        return "first by its number" if search.floor is None else "ahead", "strong"
    return _behind(trial, search), None


def _behind(trial: Trial, search: Search) -> str:
    """By how much the best trial is ahead."""
    best = next((t for t in search.trials if t.number == search.best), None)
    ours = trial.value(search.objective)
    theirs = None if best is None else best.value(search.objective)
    if ours is None or theirs is None:
        return ""
    return gain(ours - theirs) if is_ap(search.objective.metric) else f"{ours - theirs:+.3g}"


def _weights(search: Search) -> Block:
    axes = weight_axes(search.space)
    if axes is None:
        return Nothing("This sweep does not vary both weights of BCKD.")
    return weights_picture(search, axes) or Nothing("No trial has trained to its end yet.")


def _parallel(search: Search) -> Block:
    if len(search.trials) < _PAIR:
        return Nothing("Fewer than two trials have trained to their end.")
    return parallel_picture(search)


def _importance(search: Search, report: Report) -> Iterator[Block]:
    if not report.importance:
        yield Nothing(
            "It takes at least four trials that trained to their end, and parameters and numbers "
            "that differ among them."
        )
        return
    yield importance_picture(report.importance, search.names)
    yield Words(
        f"From {counted(len(search.trials), 'trial')}: a rough measure, and one of this range of "
        "values only. A parameter that is left out did not vary, or not all trials have it."
    )


def _stopped(dossier: Dossier, report: Report) -> Iterator[Block]:
    assert dossier.sweep is not None
    if isinstance(dossier.sweep.scheduler, NoScheduler):
        yield Nothing("This sweep has no scheduler: every trial trains to its end.")
        return
    trials = trials_of(dossier)
    stopped = [trial for trial in trials if trial.result == "stopped"]
    if not stopped:
        yield Nothing("The scheduler has stopped no trial.")
        return
    whole = report.epochs_trained + report.epochs_saved
    saved_s = sum(filter(None, (_saved_s(trial, dossier) for trial in stopped)))
    time = f", about {duration(saved_s)} of steps" if saved_s else ""
    yield Words(
        f"The scheduler ({dossier.sweep.scheduler.kind}) stopped {len(stopped)} of "
        f"{counted(len(trials), 'trial')}: {counted(report.epochs_trained, 'epoch')} were trained "
        f"instead of {whole}, which saved {report.epochs_saved} "
        f"({percent(report.epochs_saved / whole)}){time}."
    )
    yield _stopped_table(stopped, dossier)


def _stopped_table(stopped: list[Trial], dossier: Dossier) -> Table:
    objective = objective_of(dossier)
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
            Cell("" if value is None else measured(objective.metric, value)),
            Cell(str(epochs_saved(trial))),
            Cell("" if saved_s is None else duration(saved_s)),
            Cell(percent(share), share=share),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows))


def _saved_s(trial: Trial, dossier: Dossier) -> float | None:
    """What the epochs that were not trained would have taken of the student's own steps.

    The teacher's looks and the loading are not counted: others of its pack may have needed them.
    """
    if dossier.costs is None or dossier.sweep is None:
        return None
    costs, evaluation = dossier.costs, dossier.sweep.base.evaluation
    epoch_s = costs.steps_per_epoch * costs.student_s
    return epochs_saved(trial) * (epoch_s + costs.evaluation_s / evaluation.every_epochs)


def _front(dossier: Dossier, search: Search) -> Block:
    assert dossier.sweep is not None
    objectives = dossier.sweep.objectives
    if len(objectives) != _PAIR:
        return Nothing(f"This sweep has {counted(len(objectives), 'objective')}, not two.")
    known = [t for t in search.trials if all(t.value(o) is not None for o in objectives)]
    if len(known) < _PAIR or not front_of(known, objectives):
        return Nothing("Fewer than two trials have numbers for both objectives.")
    return front_picture(known, (objectives[0], objectives[1]))


def why_closed(dossier: Dossier) -> str | None:
    """Why the search ended; none: it goes on, or there is none."""
    ends = [entry.why for entry in dossier.entries if isinstance(entry, Closed)]
    return ends[-1] if ends else None
