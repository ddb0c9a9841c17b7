"""Computes the numbers of a report from the service's inputs and the files of the runs."""

import logging
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from configs.protocol.comparison import Comparison
from configs.protocol.copied_errors import CopiedErrors
from configs.protocol.report import Report, ReportInputs, ReportRun, Transfer
from workers.analysis.copied_errors import measure_copied_errors
from workers.analysis.intervals import RunPair, compare
from workers.analysis.matches import load_matches
from workers.analysis.transfer import compute_transfer
from workers.report.results.controls import compare_controls
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
from workers.report.sections.headline import build_headline, main_comparison
from workers.report.wording import PRIMARY_PART, join_items

log = logging.getLogger(__name__)


def build_report(inputs: ReportInputs, *, on_step: Callable[[], None] = lambda: None) -> Report:
    """Compute the report; `on_step` is called between two comparisons."""
    trials, objective = build_report_trials(inputs), get_objective(inputs)
    finished = rank_finished(trials, objective)
    best = finished[0] if finished and inputs.sweep else None
    comparisons = tuple(_comparisons(inputs, on_step=on_step))
    tied = find_ties(best, finished, objective=objective, noise=inputs.noise) if best else ()
    on_step()
    report = Report(
        title=inputs.title,
        comparisons=comparisons,
        noise=inputs.noise,
        best_trial=best.number if best else None,
        tied_with_best=tied,
        importance=compute_importance(finished, space=get_space(inputs), objective=objective),
        epochs_trained=sum(trial.epoch * trial.seeds for trial in trials),
        epochs_saved=sum(epochs_saved(trial) for trial in trials),
        transfer=_transfer(inputs, best),
    )
    return report.model_copy(
        update={
            "conclusion": build_headline(inputs, report).sentence,
            "controls": compare_controls(inputs, main_comparison(report)),
            "copied_errors": _copied_errors(inputs, main_comparison(report)),
        }
    )


def _comparisons(inputs: ReportInputs, *, on_step: Callable[[], None]) -> Iterator[Comparison]:
    """Compare by trial, and runs without a trial by groups that differ only in the seed."""
    groups: dict[int | str, list[BaselinePair]] = {}
    for pair in find_pairs(inputs):
        run = pair[0]
        group_key = run.seedless_digest or run.id
        groups.setdefault(group_key if run.trial is None else run.trial, []).append(pair)
    for group in groups.values():
        on_step()
        names = join_items(run.name for run, _ in group)
        try:
            comparison = _comparison(group, inputs)
        except ValueError as error:
            log.warning("Cannot compare %s: %s", names, error)
            continue
        if PRIMARY_PART in comparison.parts:
            yield comparison
        else:
            log.warning("Cannot compare %s: the images have no objects.", names)


def _comparison(group: Sequence[BaselinePair], inputs: ReportInputs) -> Comparison:
    sorted_pairs = sorted(group, key=lambda pair: pair[0].spec.seed)
    return compare(
        [_run_pair(run, baseline) for run, baseline in sorted_pairs],
        trial=sorted_pairs[0][0].trial,
        teacher_map=_teacher_map([run for run, _ in sorted_pairs]),
        noise=inputs.noise,
        control=sorted_pairs[0][0].spec.control,
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
    teacher_maps = [run.teacher[PRIMARY_PART] for run in runs if PRIMARY_PART in run.teacher]
    return fmean(teacher_maps) if teacher_maps else None


def _transfer(inputs: ReportInputs, best: ReportTrial | None) -> Transfer | None:
    """The transfer of the best trial's best run, or of the best run of all."""
    candidates = [
        run
        for run in inputs.runs
        if run.role == "distilled" and is_comparable(run) and teacher_matches_file(run).is_file()
    ]
    runs_of_best = [run for run in candidates if best is not None and run.trial == best.number]
    if not candidates:
        return None
    run = max(runs_of_best or candidates, key=lambda run: run.best_map or 0.0)
    return compute_transfer(
        run.id, load_matches(matches_file(run)), load_matches(teacher_matches_file(run))
    )


def _copied_errors(inputs: ReportInputs, main: Comparison | None) -> CopiedErrors | None:
    """Errors of the pairs of the main comparison whose teacher has detections."""
    runs = {run.id: run for run in inputs.runs}
    pairs = [] if main is None else zip(main.runs, main.baselines, strict=True)
    measured = [
        (runs[run], runs[baseline])
        for run, baseline in pairs
        if teacher_matches_file(runs[run]).is_file()
    ]
    try:
        return measure_copied_errors(
            [_run_pair(run, baseline) for run, baseline in measured],
            [load_matches(teacher_matches_file(run)) for run, _ in measured],
        )
    except ValueError as error:
        log.warning("Copied errors cannot be measured: %s", error)
        return None
