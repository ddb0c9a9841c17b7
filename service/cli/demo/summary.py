"""What a demo found: gain, and share of the gap between teacher and student that it closed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from urllib.parse import quote

from rich.table import Table

from configs.protocol.names import Metric
from configs.spec.run import RunSpec
from service.api.schemas.runs import RunView
from service.cli import console


@dataclass(frozen=True)
class DetectorScores:
    """COCO scores of one detector, from 0 to 1."""

    map: float | None
    map_50: float | None
    map_75: float | None


@dataclass(frozen=True)
class ScorePoint:
    """One value of one metric."""

    key: str
    step: int
    value: float


@dataclass(frozen=True)
class StudentPair:
    """A student alone and the same student with BCKD."""

    seed: int
    baseline: DetectorScores
    distilled: DetectorScores
    baseline_s: float | None
    distilled_s: float | None

    @property
    def gain(self) -> float | None:
        """mAP with BCKD less mAP alone."""
        if self.baseline.map is None or self.distilled.map is None:
            return None
        return self.distilled.map - self.baseline.map


def select_best_scores(points: Iterable[ScorePoint]) -> DetectorScores:
    """The scores of the evaluation with the best mAP, all three of the same one."""
    by_step: dict[int, dict[str, float]] = {}
    for point in points:
        by_step.setdefault(point.step, {})[point.key] = point.value
    measured = [values for _, values in sorted(by_step.items()) if Metric.MAP in values]
    if not measured:
        return DetectorScores(None, None, None)
    best = max(measured, key=lambda values: values[Metric.MAP])
    return DetectorScores(best[Metric.MAP], best.get(Metric.MAP_50), best.get(Metric.MAP_75))


def read_teacher_scores(latest: Mapping[str, float]) -> DetectorScores:
    """The teacher's scores as the run that it teaches has measured them."""
    return DetectorScores(
        latest.get(Metric.TEACHER_MAP),
        latest.get(Metric.TEACHER_MAP_50),
        latest.get(Metric.TEACHER_MAP_75),
    )


def compute_gap_closed(teacher: DetectorScores, pair: StudentPair) -> float | None:
    """Which share of the way from student to teacher BCKD went."""
    if teacher.map is None or pair.baseline.map is None or pair.gain is None:
        return None
    gap = teacher.map - pair.baseline.map
    return pair.gain / gap if gap > 0 else None


def build_summary_table(
    teacher: DetectorScores, teacher_s: float | None, pairs: Sequence[StudentPair]
) -> Table:
    """The answer, in the units of papers."""
    # Several pairs have longer labels, and leave no room for a column of times in 80 characters.
    times = ("time",) if len(pairs) == 1 else ()
    shown = console.table("", "mAP", "AP_50", "AP_75", "gain", "gap closed", *times)
    _add(shown, "teacher", teacher, seconds=teacher_s)
    for pair in pairs:
        suffix = f", seed {pair.seed}" if len(pairs) > 1 else ""
        _add(shown, f"student alone{suffix}", pair.baseline, seconds=pair.baseline_s)
        _add(
            shown,
            f"student with BCKD{suffix}",
            pair.distilled,
            gain=pair.gain,
            closed=compute_gap_closed(teacher, pair),
            seconds=pair.distilled_s,
        )
    gains = [pair.gain for pair in pairs if pair.gain is not None]
    if len(gains) > 1:
        shown.add_row(f"mean gain of {len(gains)} seeds", "", "", "", _gain_text(fmean(gains)), "")
    return shown


def format_scope(distilled: RunView) -> str:
    """What a verdict holds for: the pair of detectors, the data and the length of the training."""
    spec = distilled.spec
    assert isinstance(spec, RunSpec), "an evaluation or an export has no student"
    epochs, steps = spec.schedule.epochs, distilled.progress
    length = f"{epochs} epochs" + (f" ({steps.steps} steps)" if steps else "")
    return (
        f"That holds for this teacher, a {spec.student.title} trained for {length} and these "
        "images; with other data or a longer training the gain is another: measure it there."
    )


def build_comparison_url(
    mlflow_url: str, *, run_ids: Sequence[str], experiments: Iterable[str]
) -> str:
    """MLflow's page that lays the runs side by side."""
    runs = quote(json.dumps(list(run_ids), separators=(",", ":")))
    of = quote(json.dumps(sorted(set(experiments)), separators=(",", ":")))
    return f"{mlflow_url.rstrip('/')}/#/compare-runs?runs={runs}&experiments={of}"


def _add(
    shown: Table,
    label: str,
    scores: DetectorScores,
    *,
    gain: float | None = None,
    closed: float | None = None,
    seconds: float | None = None,
) -> None:
    cells = (
        label,
        console.format_score(scores.map),
        console.format_score(scores.map_50),
        console.format_score(scores.map_75),
        "" if gain is None else _gain_text(gain),
        "" if closed is None else f"{100 * closed:.0f} %",
        console.format_duration(seconds) if seconds is not None else "",
    )
    shown.add_row(*cells[: len(shown.columns)])


def _gain_text(gain: float) -> str:
    colour = "green" if gain > 0 else "red"
    return f"[{colour}]{100 * gain:+.1f}[/]"
