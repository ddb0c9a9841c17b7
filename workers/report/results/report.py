"""From what the service knows and what runs left in their folders to a report's numbers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from configs.protocol.report import Comparison, Report, ReportInputs, ReportRun, Transfer
from workers.analysis.intervals import RunPair, compare
from workers.analysis.matches import load_matches
from workers.analysis.transfer import compute_transfer
from workers.report.results.importance import compute_importance
from workers.report.results.pairs import (
    BaselinePair,
    find_pairs,
    is_comparable,
    matches_file,
    teacher_matches_file,
)
from workers.report.results.trials import (
    ReportTrial,
    build_report_trials,
    epochs_saved,
    find_ties,
    get_objective,
    get_space,
    rank_finished,
)
from workers.report.sections.headline import build_headline
from workers.report.wording import PRIMARY_PART, join_words

log = logging.getLogger(__name__)


def build_report(dossier: ReportInputs, *, on_step: Callable[[], None] = lambda: None) -> Report:
    """Everything that can be said; `on_step` is called between two comparisons."""
    trials, objective = build_report_trials(dossier), get_objective(dossier)
    ranked = rank_finished(trials, objective)
    best = ranked[0] if ranked and dossier.sweep else None
    comparisons = tuple(_comparisons(dossier, on_step=on_step))
    tied = find_ties(best, ranked, objective=objective, noise=dossier.noise) if best else ()
    on_step()
    report = Report(
        title=dossier.title,
        comparisons=comparisons,
        noise=dossier.noise,
        best_trial=best.number if best else None,
        tied_with_best=tied,
        importance=compute_importance(ranked, space=get_space(dossier), objective=objective),
        epochs_trained=sum(trial.epoch * trial.seeds for trial in trials),
        epochs_saved=sum(epochs_saved(trial) for trial in trials),
        transfer=_transfer(dossier, best),
    )
    return report.model_copy(update={"conclusion": build_headline(dossier, report).sentence})


def _comparisons(dossier: ReportInputs, *, on_step: Callable[[], None]) -> Iterator[Comparison]:
    """One for each trial over its seeds, and one for each family of runs that are of no trial."""
    groups: dict[int | str, list[BaselinePair]] = {}
    for twins in find_pairs(dossier):
        run = twins[0]
        of_no_trial = run.seedless_digest or run.id
        groups.setdefault(of_no_trial if run.trial is None else run.trial, []).append(twins)
    for group in groups.values():
        on_step()
        names = join_words(run.name for run, _ in group)
        try:
            comparison = _comparison(group, dossier)
        except ValueError as error:
            log.warning("No comparison of %s: %s", names, error)
            continue
        if PRIMARY_PART in comparison.parts:
            yield comparison
        else:
            log.warning("No comparison of %s: the images have no objects to be found.", names)


def _comparison(group: Sequence[BaselinePair], dossier: ReportInputs) -> Comparison:
    in_order = sorted(group, key=lambda twins: twins[0].spec.seed)
    return compare(
        [_run_pair(run, baseline) for run, baseline in in_order],
        trial=in_order[0][0].trial,
        teacher_map=_teacher_map([run for run, _ in in_order]),
        noise=dossier.noise,
    )


def _run_pair(run: ReportRun, baseline: ReportRun) -> RunPair:
    return RunPair(
        seed=run.spec.seed,
        run_id=run.id,
        baseline_id=baseline.id,
        run=load_matches(matches_file(run)),
        baseline=load_matches(matches_file(baseline)),
    )


def _teacher_map(runs: Sequence[ReportRun]) -> float | None:
    known = [run.teacher[PRIMARY_PART] for run in runs if PRIMARY_PART in run.teacher]
    return fmean(known) if known else None


def _transfer(dossier: ReportInputs, best: ReportTrial | None) -> Transfer | None:
    """Of the best trial's best run, or of the best run at all."""
    candidates = [
        run
        for run in dossier.runs
        if run.role == "distilled" and is_comparable(run) and teacher_matches_file(run).is_file()
    ]
    of_best = [run for run in candidates if best is not None and run.trial == best.number]
    if not candidates:
        return None
    run = max(of_best or candidates, key=lambda run: run.best_map or 0.0)
    return compute_transfer(
        run.id, load_matches(matches_file(run)), load_matches(teacher_matches_file(run))
    )
