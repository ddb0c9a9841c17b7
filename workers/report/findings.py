"""From what the service knows and what runs left in their folders to a report's numbers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from configs.spec import (
    Comparison,
    Dossier,
    DossierRun,
    Report,
    RunFile,
    Transfer,
)
from workers.analysis.intervals import compare
from workers.analysis.matches import load_matches
from workers.analysis.transfer import transfer_of
from workers.report.importance import importance_of
from workers.report.trials import Trial, finished, objective_of, tied_with, trials_of
from workers.report.wording import DECIDING

Twins = tuple[DossierRun, DossierRun]
"""A distilled run and its baseline, both with the same seed."""


def report_of(dossier: Dossier, *, on_step: Callable[[], None] = lambda: None) -> Report:
    """Everything that can be said; `on_step` is called between two comparisons."""
    trials, objective = trials_of(dossier), objective_of(dossier)
    ranked = finished(trials, objective)
    best = ranked[0] if ranked and dossier.sweep else None
    comparisons = tuple(_comparisons(dossier, on_step=on_step))
    tied = tied_with(best, ranked, objective=objective, noise=dossier.noise) if best else ()
    space = dossier.sweep.space if dossier.sweep else {}
    on_step()
    return Report(
        title=dossier.title,
        comparisons=comparisons,
        noise=dossier.noise,
        best_trial=best.number if best else None,
        tied_with_best=tied,
        importance=importance_of(ranked, space=space, objective=objective),
        epochs_trained=sum(trial.epoch * trial.seeds for trial in trials),
        epochs_saved=sum(epochs_saved(trial) for trial in trials),
        transfer=_transfer(dossier, best),
    )


def epochs_saved(trial: Trial) -> int:
    """What a trial's runs did not train because the scheduler stopped it."""
    if trial.result != "stopped":
        return 0
    return max(0, trial.epochs - trial.epoch) * trial.seeds


def twins_of(dossier: Dossier) -> list[Twins]:
    """Distilled runs beside their baselines, where both trained to their end."""
    by_id = {run.id: run for run in dossier.runs}
    return [
        (run, by_id[run.baseline])
        for run in dossier.runs
        if run.role == "distilled"
        and run.baseline in by_id
        and _is_whole(run)
        and _is_whole(by_id[run.baseline])
    ]


def matches_file(run: DossierRun) -> Path:
    """Which of a run's detections are right."""
    return Path(run.folder) / RunFile.MATCHES


def _is_whole(run: DossierRun) -> bool:
    return run.result in (None, "finished") and matches_file(run).is_file()


def _comparisons(dossier: Dossier, *, on_step: Callable[[], None]) -> Iterator[Comparison]:
    """One for each trial over its seeds, and one for each run that is of no trial."""
    groups: dict[int | str, list[Twins]] = {}
    for twins in twins_of(dossier):
        trial = twins[0].trial
        groups.setdefault(twins[0].id if trial is None else trial, []).append(twins)
    for group in groups.values():
        on_step()
        yield _comparison(group, dossier)


def _comparison(group: Sequence[Twins], dossier: Dossier) -> Comparison:
    in_order = sorted(group, key=lambda twins: twins[0].spec.seed)
    return compare(
        [
            (load_matches(matches_file(run)), load_matches(matches_file(baseline)))
            for run, baseline in in_order
        ],
        run_ids=[run.id for run, _ in in_order],
        baseline_ids=[baseline.id for _, baseline in in_order],
        trial=in_order[0][0].trial,
        teacher_map=_teacher_map([run for run, _ in in_order]),
        noise=dossier.noise,
    )


def _teacher_map(runs: Sequence[DossierRun]) -> float | None:
    known = [run.teacher[DECIDING] for run in runs if DECIDING in run.teacher]
    return fmean(known) if known else None


def _transfer(dossier: Dossier, best: Trial | None) -> Transfer | None:
    """Of the best trial's best run, or of the best run at all."""
    candidates = [
        run
        for run in dossier.runs
        if run.role == "distilled" and _is_whole(run) and _teacher_file(run).is_file()
    ]
    of_best = [run for run in candidates if best is not None and run.trial == best.number]
    if not candidates:
        return None
    run = max(of_best or candidates, key=lambda run: run.best_map or 0.0)
    return transfer_of(run.id, load_matches(matches_file(run)), load_matches(_teacher_file(run)))


def _teacher_file(run: DossierRun) -> Path:
    return Path(run.folder) / RunFile.TEACHER_MATCHES
