"""Results of a demo: scores, gains, and the share of the gap to the teacher that was closed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.table import Table

from configs.metric_keys import Metric
from configs.spec.run import RunSpec
from service.api.schemas.runs import RunView
from service.cli import console


@dataclass(frozen=True)
class DetectorScores:
    """COCO scores of one detector, from 0 to 1; None until the first evaluation."""

    map: float | None
    map_50: float | None
    map_75: float | None


@dataclass(frozen=True)
class ScorePoint:
    """Value of a metric at a step."""

    key: str
    step: int
    value: float


@dataclass(frozen=True)
class StudentPair:
    """Scores and training times of a baseline and of the distilled student."""

    seed: int
    baseline: DetectorScores
    distilled: DetectorScores
    baseline_s: float | None
    distilled_s: float | None

    @property
    def gain(self) -> float | None:
        """mAP of the distilled student minus mAP of the baseline; None without both."""
        if self.baseline.map is None or self.distilled.map is None:
            return None
        return self.distilled.map - self.baseline.map


def select_best_scores(points: Iterable[ScorePoint]) -> DetectorScores:
    """Return the scores of the evaluation with the best mAP."""
    by_step: dict[int, dict[str, float]] = {}
    for point in points:
        by_step.setdefault(point.step, {})[point.key] = point.value
    measured = [values for _, values in sorted(by_step.items()) if Metric.MAP in values]
    if not measured:
        return DetectorScores(None, None, None)
    best = max(measured, key=lambda values: values[Metric.MAP])
    return DetectorScores(best[Metric.MAP], best.get(Metric.MAP_50), best.get(Metric.MAP_75))


def read_teacher_scores(latest: Mapping[str, float]) -> DetectorScores:
    """Return the teacher's scores, as measured by a distilled run."""
    return DetectorScores(
        latest.get(Metric.TEACHER_MAP),
        latest.get(Metric.TEACHER_MAP_50),
        latest.get(Metric.TEACHER_MAP_75),
    )


def compute_gap_closed(teacher: DetectorScores, pair: StudentPair) -> float | None:
    """Return gain / (teacher's mAP - baseline's mAP); None without scores or without a gap."""
    if teacher.map is None or pair.baseline.map is None or pair.gain is None:
        return None
    gap = teacher.map - pair.baseline.map
    return pair.gain / gap if gap > 0 else None


def build_summary_table(
    teacher: DetectorScores, teacher_s: float | None, pairs: Sequence[StudentPair]
) -> Table:
    """Build a table of all scores, times 100 as in papers."""
    # With the longer labels of several pairs, a time column does not fit into 80 characters.
    times = ("time",) if len(pairs) == 1 else ()
    titles = ("mAP", "AP_50", "AP_75", "gain", "gap closed")
    table = console.create_table("", *titles, *times, numbers=titles)
    _add_row(table, "teacher", teacher, seconds=teacher_s)
    for pair in pairs:
        suffix = f", seed {pair.seed}" if len(pairs) > 1 else ""
        _add_row(table, f"baseline{suffix}", pair.baseline, seconds=pair.baseline_s)
        _add_row(
            table,
            f"with BCKD{suffix}",
            pair.distilled,
            gain=pair.gain,
            closed=compute_gap_closed(teacher, pair),
            seconds=pair.distilled_s,
        )
    gains = [pair.gain for pair in pairs if pair.gain is not None]
    if len(gains) > 1:
        table.add_row(
            f"mean gain of {len(gains)} seeds", "", "", "", _format_gain(fmean(gains)), ""
        )
    return table


def format_scope(distilled: RunView) -> str:
    """Describe the scope of a verdict: detectors, data and length of the training."""
    spec = distilled.spec
    assert isinstance(spec, RunSpec), "an evaluation or an export has no student"
    epochs, steps = spec.schedule.epochs, distilled.progress
    length = f"{epochs} epochs" + (f" ({steps.steps} steps)" if steps else "")
    return (
        f"This holds for this teacher, a {spec.student.title} trained for {length} and these "
        "images; the gain differs with other data or a longer training."
    )


def _add_row(
    table: Table,
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
        "" if gain is None else _format_gain(gain),
        "" if closed is None else f"{100 * closed:.0f} %",
        console.format_duration(seconds) if seconds is not None else "",
    )
    table.add_row(*cells[: len(table.columns)])


def _format_gain(gain: float) -> str:
    color = "green" if gain > 0 else "red"
    return f"[{color}]{100 * gain:+.1f}[/]"
