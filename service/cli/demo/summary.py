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
class Scores:
    """COCO scores of one detector, from 0 to 1."""

    map: float | None
    map_50: float | None
    map_75: float | None


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    key: str
    step: int
    value: float


@dataclass(frozen=True)
class Pair:
    """A student alone and the same student with BCKD."""

    seed: int
    alone: Scores
    taught: Scores
    alone_s: float | None
    taught_s: float | None

    @property
    def gain(self) -> float | None:
        """mAP with BCKD less mAP alone."""
        if self.alone.map is None or self.taught.map is None:
            return None
        return self.taught.map - self.alone.map


def best_scores(points: Iterable[Point]) -> Scores:
    """The scores of the evaluation with the best mAP, all three of the same one."""
    by_step: dict[int, dict[str, float]] = {}
    for point in points:
        by_step.setdefault(point.step, {})[point.key] = point.value
    measured = [values for _, values in sorted(by_step.items()) if Metric.MAP in values]
    if not measured:
        return Scores(None, None, None)
    best = max(measured, key=lambda values: values[Metric.MAP])
    return Scores(best[Metric.MAP], best.get(Metric.MAP_50), best.get(Metric.MAP_75))


def teacher_scores(latest: Mapping[str, float]) -> Scores:
    """The teacher's scores as the run that it teaches has measured them."""
    return Scores(
        latest.get(Metric.TEACHER_MAP),
        latest.get(Metric.TEACHER_MAP_50),
        latest.get(Metric.TEACHER_MAP_75),
    )


def gap_closed(teacher: Scores, pair: Pair) -> float | None:
    """Which share of the way from student to teacher BCKD went."""
    if teacher.map is None or pair.alone.map is None or pair.gain is None:
        return None
    gap = teacher.map - pair.alone.map
    return pair.gain / gap if gap > 0 else None


def report_table(teacher: Scores, teacher_s: float | None, pairs: Sequence[Pair]) -> Table:
    """The answer, in the units of papers."""
    # Several pairs have longer labels, and leave no room for a column of times in 80 characters.
    times = ("time",) if len(pairs) == 1 else ()
    shown = console.table("", "mAP", "AP_50", "AP_75", "gain", "gap closed", *times)
    _add(shown, "teacher", teacher, seconds=teacher_s)
    for pair in pairs:
        suffix = f", seed {pair.seed}" if len(pairs) > 1 else ""
        _add(shown, f"student alone{suffix}", pair.alone, seconds=pair.alone_s)
        _add(
            shown,
            f"student with BCKD{suffix}",
            pair.taught,
            gain=pair.gain,
            closed=gap_closed(teacher, pair),
            seconds=pair.taught_s,
        )
    gains = [pair.gain for pair in pairs if pair.gain is not None]
    if len(gains) > 1:
        shown.add_row(f"mean gain of {len(gains)} seeds", "", "", "", _gain_text(fmean(gains)), "")
    return shown


def scope_text(distilled: RunView) -> str:
    """What a verdict holds for: the pair of detectors, the data and the length of the training."""
    spec = distilled.spec
    assert isinstance(spec, RunSpec), "an evaluation or an export has no student"
    epochs, steps = spec.schedule.epochs, distilled.progress
    length = f"{epochs} epochs" + (f" ({steps.steps} steps)" if steps else "")
    return (
        f"That holds for this teacher, a {spec.student.title} trained for {length} and these "
        "images; with other data or a longer training the gain is another: measure it there."
    )


def comparison_url(mlflow_url: str, *, run_ids: Sequence[str], experiments: Iterable[str]) -> str:
    """MLflow's page that lays the runs side by side."""
    runs = quote(json.dumps(list(run_ids), separators=(",", ":")))
    of = quote(json.dumps(sorted(set(experiments)), separators=(",", ":")))
    return f"{mlflow_url.rstrip('/')}/#/compare-runs?runs={runs}&experiments={of}"


def _add(
    shown: Table,
    label: str,
    scores: Scores,
    *,
    gain: float | None = None,
    closed: float | None = None,
    seconds: float | None = None,
) -> None:
    cells = (
        label,
        console.score_text(scores.map),
        console.score_text(scores.map_50),
        console.score_text(scores.map_75),
        "" if gain is None else _gain_text(gain),
        "" if closed is None else f"{100 * closed:.0f} %",
        console.duration_text(seconds) if seconds is not None else "",
    )
    shown.add_row(*cells[: len(shown.columns)])


def _gain_text(gain: float) -> str:
    colour = "green" if gain > 0 else "red"
    return f"[{colour}]{100 * gain:+.1f}[/]"
