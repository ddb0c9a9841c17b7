"""Time series of the runs that start or train; no I/O."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from configs.metric_keys import Metric
from configs.protocol.records import PendingRecords, Progress
from service.domain.metrics.series import Series
from service.domain.states import RunState

_TRAIN, _STUDENT, _TEACHER = "train/", "val/", "teacher/"
_MAP = "bbox_mAP"

_Values = Iterable[tuple[Sequence[str], float]]
"""Values of one run, each with the values of the labels that the series adds to the run's own."""


@dataclass(frozen=True)
class ActiveRun:
    """A run that starts or trains, with what its series need."""

    id: str
    name: str
    project: str
    state: RunState
    attempt: int
    progress: Progress | None
    latest: Mapping[str, float]
    pending_records: PendingRecords
    last_seen_at: datetime
    """When its worker last reported; before its first report, when the run began to start."""

    def heartbeat_age_s(self, now: datetime) -> float:
        return (now - self.last_seen_at).total_seconds()


def run_series(runs: Sequence[ActiveRun], *, now: datetime) -> list[Series]:
    """All series with one value per run; a value that is not known yet is left out."""
    return [*_progress_series(runs), *_attempt_series(runs, now=now), *_metric_series(runs)]


def _progress_series(runs: Sequence[ActiveRun]) -> list[Series]:
    return [
        _series(
            "run_progress_ratio", "Fraction of a run's steps that are done.", runs, _progress_ratio
        ),
        _series(
            "run_images_per_second",
            "Images that a run trains on per second.",
            runs,
            lambda run: _optional(run.latest.get(Metric.IMAGES_PER_S)),
        ),
        _series(
            "run_seconds_left",
            "Seconds until a run ends, as its worker estimates.",
            runs,
            lambda run: _optional(None if run.progress is None else run.progress.eta_s),
        ),
    ]


def _attempt_series(runs: Sequence[ActiveRun], *, now: datetime) -> list[Series]:
    return [
        _series(
            "run_heartbeat_age_seconds",
            "Seconds since a run's worker last reported.",
            runs,
            lambda run: _optional(run.heartbeat_age_s(now)),
        ),
        _series(
            "run_attempts",
            "Number of a run's current attempt.",
            runs,
            lambda run: _optional(run.attempt),
        ),
        _series(
            "run_pending_records",
            "Records of a run that a destination lacks, as its worker last reported.",
            runs,
            lambda run: [
                ((destination,), count) for destination, count in run.pending_records.items()
            ],
            labels=("destination",),
        ),
    ]


def _metric_series(runs: Sequence[ActiveRun]) -> list[Series]:
    return [
        _series(
            "run_loss",
            "Last values of a run's loss and of its terms.",
            runs,
            _losses,
            labels=("term",),
        ),
        _series(
            "run_map",
            "Last values of mAP and its parts, of a run's student and of its teacher.",
            runs,
            _maps,
            labels=("part", "model"),
        ),
    ]


def _series(
    name: str,
    description: str,
    runs: Iterable[ActiveRun],
    values: Callable[[ActiveRun], _Values],
    *,
    labels: tuple[str, ...] = (),
) -> Series:
    samples = [
        ((run.id, run.name, run.project, *label_values), value)
        for run in runs
        for label_values, value in values(run)
    ]
    return Series(name, description, ("run", "name", "project", *labels), samples)


def _optional(value: float | None) -> _Values:
    return [] if value is None else [((), value)]


def _progress_ratio(run: ActiveRun) -> _Values:
    progress = run.progress
    if progress is None or progress.steps < 1:
        return []
    return [((), min(1.0, max(0.0, progress.step / progress.steps)))]


def _losses(run: ActiveRun) -> Iterator[tuple[Sequence[str], float]]:
    for key, value in run.latest.items():
        if key.startswith(_TRAIN) and "loss" in key:
            yield (key.removeprefix(_TRAIN),), value


def _maps(run: ActiveRun) -> Iterator[tuple[Sequence[str], float]]:
    for prefix, model in ((_STUDENT, "student"), (_TEACHER, "teacher")):
        for key, value in run.latest.items():
            # COCO says -1 where no object is of the size.
            if key.startswith(prefix + _MAP) and value >= 0.0:
                yield (key.removeprefix(prefix), model), value
