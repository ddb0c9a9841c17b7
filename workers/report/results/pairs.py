"""Which runs can be compared: a distilled run and its twin, both trained to their end."""

from pathlib import Path

from configs.protocol.names import RunFile
from configs.protocol.report import ReportInputs, ReportRun

BaselinePair = tuple[ReportRun, ReportRun]
"""A distilled run and its baseline, both with the same seed."""


def find_pairs(dossier: ReportInputs) -> list[BaselinePair]:
    """Distilled runs beside their baselines, where both can be compared."""
    by_id = {run.id: run for run in dossier.runs}
    pairs = [
        (run, by_id[run.baseline])
        for run in dossier.runs
        if run.role == "distilled" and run.baseline in by_id
    ]
    return [(run, twin) for run, twin in pairs if is_comparable(run) and is_comparable(twin)]


def is_comparable(run: ReportRun) -> bool:
    """Whether a run trained to its end and kept its detections."""
    return run.result in (None, "finished") and matches_file(run).is_file()


def matches_file(run: ReportRun) -> Path:
    """Which of a run's detections are right."""
    return Path(run.folder) / RunFile.MATCHES


def teacher_matches_file(run: ReportRun) -> Path:
    """Which of its teacher's detections are right, on the same images."""
    return Path(run.folder) / RunFile.TEACHER_MATCHES


def explain_not_compared(run: ReportRun, dossier: ReportInputs) -> str:
    """What kept a run from being compared, in words."""
    if run.result not in (None, "finished"):
        return run.result
    if not matches_file(run).is_file():
        return "it kept no detections"
    if run.role == "baseline":
        return "no run to compare it with"
    if run.baseline is None:
        return "it has no twin without a teacher"
    twin = next((other for other in dossier.runs if other.id == run.baseline), None)
    if twin is None or not is_comparable(twin):
        return "its twin has not trained to the end, or kept no detections"
    return "its detections and its twin's do not fit together"
