"""Pairs of a distilled run and its baseline that can be compared."""

from pathlib import Path

from configs.protocol.names import RunFile
from configs.protocol.report import ReportInputs, ReportRun

BaselinePair = tuple[ReportRun, ReportRun]
"""A distilled run and its baseline with the same seed."""


def find_pairs(inputs: ReportInputs) -> list[BaselinePair]:
    """Find the distilled runs and the controls that can be compared with their baselines."""
    by_id = {run.id: run for run in inputs.runs}
    pairs = [
        (run, by_id[run.baseline])
        for run in inputs.runs
        if run.role != "baseline" and run.baseline in by_id
    ]
    return [
        (run, baseline) for run, baseline in pairs if is_comparable(run) and is_comparable(baseline)
    ]


def is_comparable(run: ReportRun) -> bool:
    """Whether a run finished and its detections are on disk."""
    return run.result in (None, "finished") and matches_file(run).is_file()


def matches_file(run: ReportRun) -> Path:
    """File with a run's matched detections."""
    return Path(run.folder) / RunFile.MATCHES


def teacher_matches_file(run: ReportRun) -> Path:
    """File with the matched detections of the run's teacher on the same images."""
    return Path(run.folder) / RunFile.TEACHER_MATCHES


def explain_not_compared(run: ReportRun, inputs: ReportInputs) -> str:
    """Explain why a run is not in any comparison."""
    if run.result not in (None, "finished"):
        return run.result
    if not matches_file(run).is_file():
        return "its detections are missing"
    if run.role == "baseline":
        return "no run to compare it with"
    if run.baseline is None:
        return "it has no baseline"
    baseline = next((other for other in inputs.runs if other.id == run.baseline), None)
    if baseline is None or not is_comparable(baseline):
        return "its baseline has not finished, or its detections are missing"
    return "its detections and those of its baseline cannot be compared; see the log"
