"""From what the service knows and what runs left in their folders to a report's numbers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from configs.protocol.report import Comparison, Dossier, DossierRun, Report, Transfer
from workers.analysis.intervals import RunPair, compare
from workers.analysis.matches import load_matches
from workers.analysis.transfer import transfer_of
from workers.report.results.importance import importance_of
from workers.report.results.pairs import (
    Twins,
    is_whole,
    matches_file,
    teacher_matches_file,
    twins_of,
)
from workers.report.results.trials import (
    Trial,
    epochs_saved,
    finished,
    objective_of,
    space_of,
    tied_with,
    trials_of,
)
from workers.report.sections.headline import headline_of
from workers.report.wording import DECIDING, listed

log = logging.getLogger(__name__)


def report_of(dossier: Dossier, *, on_step: Callable[[], None] = lambda: None) -> Report:
    """Everything that can be said; `on_step` is called between two comparisons."""
    trials, objective = trials_of(dossier), objective_of(dossier)
    ranked = finished(trials, objective)
    best = ranked[0] if ranked and dossier.sweep else None
    comparisons = tuple(_comparisons(dossier, on_step=on_step))
    tied = tied_with(best, ranked, objective=objective, noise=dossier.noise) if best else ()
    on_step()
    report = Report(
        title=dossier.title,
        comparisons=comparisons,
        noise=dossier.noise,
        best_trial=best.number if best else None,
        tied_with_best=tied,
        importance=importance_of(ranked, space=space_of(dossier), objective=objective),
        epochs_trained=sum(trial.epoch * trial.seeds for trial in trials),
        epochs_saved=sum(epochs_saved(trial) for trial in trials),
        transfer=_transfer(dossier, best),
    )
    return report.model_copy(update={"conclusion": headline_of(dossier, report).sentence})


def _comparisons(dossier: Dossier, *, on_step: Callable[[], None]) -> Iterator[Comparison]:
    """One for each trial over its seeds, and one for each family of runs that are of no trial."""
    groups: dict[int | str, list[Twins]] = {}
    for twins in twins_of(dossier):
        run = twins[0]
        of_no_trial = run.family or run.id
        groups.setdefault(of_no_trial if run.trial is None else run.trial, []).append(twins)
    for group in groups.values():
        on_step()
        names = listed(run.name for run, _ in group)
        try:
            comparison = _comparison(group, dossier)
        except ValueError as error:
            log.warning("No comparison of %s: %s", names, error)
            continue
        if DECIDING in comparison.parts:
            yield comparison
        else:
            log.warning("No comparison of %s: the images have no objects to be found.", names)


def _comparison(group: Sequence[Twins], dossier: Dossier) -> Comparison:
    in_order = sorted(group, key=lambda twins: twins[0].spec.seed)
    return compare(
        [_run_pair(run, baseline) for run, baseline in in_order],
        trial=in_order[0][0].trial,
        teacher_map=_teacher_map([run for run, _ in in_order]),
        noise=dossier.noise,
    )


def _run_pair(run: DossierRun, baseline: DossierRun) -> RunPair:
    return RunPair(
        seed=run.spec.seed,
        run_id=run.id,
        baseline_id=baseline.id,
        run=load_matches(matches_file(run)),
        baseline=load_matches(matches_file(baseline)),
    )


def _teacher_map(runs: Sequence[DossierRun]) -> float | None:
    known = [run.teacher[DECIDING] for run in runs if DECIDING in run.teacher]
    return fmean(known) if known else None


def _transfer(dossier: Dossier, best: Trial | None) -> Transfer | None:
    """Of the best trial's best run, or of the best run at all."""
    candidates = [
        run
        for run in dossier.runs
        if run.role == "distilled" and is_whole(run) and teacher_matches_file(run).is_file()
    ]
    of_best = [run for run in candidates if best is not None and run.trial == best.number]
    if not candidates:
        return None
    run = max(of_best or candidates, key=lambda run: run.best_map or 0.0)
    return transfer_of(
        run.id, load_matches(matches_file(run)), load_matches(teacher_matches_file(run))
    )
