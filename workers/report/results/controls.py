"""Compares distilled runs with their controls, over the seeds that both have."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from configs.protocol.comparison import Comparison, ControlComparison
from configs.protocol.report import ReportInputs, ReportRun
from configs.spec.base import TeacherControl
from workers.analysis.intervals import RunPair, compare
from workers.analysis.matches import Matches, load_matches
from workers.report.results.pairs import find_pairs, matches_file
from workers.report.wording import PRIMARY_PART

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Triple:
    """A distilled run, its control and their baseline, all with one seed."""

    run: ReportRun
    control: ReportRun
    baseline: ReportRun


def compare_controls(
    inputs: ReportInputs, main: Comparison | None
) -> tuple[ControlComparison, ...]:
    """Compare the runs of the main comparison with each kind of control; none for a sweep."""
    if main is None or main.control is not None or inputs.sweep is not None:
        return ()
    return tuple(_comparisons(inputs, main))


def _comparisons(inputs: ReportInputs, main: Comparison) -> Iterator[ControlComparison]:
    kinds: tuple[TeacherControl, ...] = get_args(TeacherControl)
    for kind in kinds:
        triples = _find_triples(inputs, main, kind)
        if not triples:
            continue
        try:
            yield _compare(kind, triples)
        except (ValueError, KeyError) as error:
            log.warning("The controls %s cannot be compared: %s", kind, error)


def _find_triples(inputs: ReportInputs, main: Comparison, kind: TeacherControl) -> list[_Triple]:
    pairs = find_pairs(inputs)
    controls = {run.spec.seed: run for run, _ in pairs if run.spec.control == kind}
    triples = [
        _Triple(run, controls[run.spec.seed], baseline)
        for run, baseline in pairs
        if run.id in main.runs and run.spec.seed in controls
    ]
    return sorted(triples, key=lambda triple: triple.run.spec.seed)


def _compare(kind: TeacherControl, triples: Sequence[_Triple]) -> ControlComparison:
    """Raises `ValueError` for other images, and `KeyError` where these have no objects."""
    matches = {
        run.id: load_matches(matches_file(run))
        for triple in triples
        for run in (triple.run, triple.control, triple.baseline)
    }
    against_control, gain, control_gain = (
        _compare_runs(pairs, matches)
        for pairs in (
            [(triple.run, triple.control) for triple in triples],
            [(triple.run, triple.baseline) for triple in triples],
            [(triple.control, triple.baseline) for triple in triples],
        )
    )
    return ControlComparison(
        kind=kind,
        runs=against_control.runs,
        controls=against_control.baselines,
        difference=against_control.parts[PRIMARY_PART],
        gain=gain.parts[PRIMARY_PART],
        control_gain=control_gain.parts[PRIMARY_PART],
        verdict=against_control.verdict,
    )


def _compare_runs(
    pairs: Sequence[tuple[ReportRun, ReportRun]], matches: dict[str, Matches]
) -> Comparison:
    """Without a noise floor: one seed says nothing of how a run and its control vary."""
    run_pairs = [
        RunPair(run.spec.seed, run.id, other.id, matches[run.id], matches[other.id])
        for run, other in pairs
    ]
    return compare(run_pairs, trial=None, teacher_map=None, noise=None)
