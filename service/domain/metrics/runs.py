"""How each run that goes on is doing, in figures: pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from configs.protocol.names import Metric
from configs.protocol.records import PendingRecords, Progress
from service.domain.metrics.series import Series
from service.domain.states import RunState

_TRAIN, _STUDENT, _TEACHER = "train/", "val/", "teacher/"
_MAP = "bbox_mAP"

Values = Iterable[tuple[Sequence[str], float]]
"""Of one run: by the labels that it has beside its own."""


@dataclass(frozen=True)
class ActiveRun:
    """A run that starts or trains, as far as figures tell of it."""

    id: str
    name: str
    project: str
    state: RunState
    attempt: int
    progress: Progress | None
    latest: Mapping[str, float]
    pending_records: PendingRecords
    last_seen_at: datetime
    """When its worker was last heard; before its first word, since when the run starts."""

    def heartbeat_age_s(self, now: datetime) -> float:
        """How long nothing was heard of it."""
        return (now - self.last_seen_at).total_seconds()


def run_series(runs: Sequence[ActiveRun], *, now: datetime) -> list[Series]:
    """Everything that is told of runs by their names; what is not known of one is left out."""
    return [*_of_training(runs), *_of_attempts(runs, now=now), *_of_numbers(runs)]


def _of_training(runs: Sequence[ActiveRun]) -> list[Series]:
    return [
        _series("run_progress_ratio", "Share of a run's steps that is done.", runs, _share_done),
        _series(
            "run_images_per_second",
            "Images that a run trains on in a second.",
            runs,
            lambda run: _if_known(run.latest.get(Metric.IMAGES_PER_S)),
        ),
        _series(
            "run_seconds_left",
            "Seconds that a run goes on, as its worker estimates.",
            runs,
            lambda run: _if_known(None if run.progress is None else run.progress.eta_s),
        ),
    ]


def _of_attempts(runs: Sequence[ActiveRun], *, now: datetime) -> list[Series]:
    return [
        _series(
            "run_heartbeat_age_seconds",
            "Seconds since a run's worker was last heard.",
            runs,
            lambda run: _if_known(run.heartbeat_age_s(now)),
        ),
        _series(
            "run_attempts",
            "Number of a run's current attempt.",
            runs,
            lambda run: _if_known(run.attempt),
        ),
        _series(
            "run_pending_records",
            "Records of a run that a place lacks, as its worker said last.",
            runs,
            lambda run: [((place,), count) for place, count in run.pending_records.items()],
            labels=("place",),
        ),
    ]


def _of_numbers(runs: Sequence[ActiveRun]) -> list[Series]:
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
            labels=("part", "whose"),
        ),
    ]


def _series(
    name: str,
    what: str,
    runs: Iterable[ActiveRun],
    values: Callable[[ActiveRun], Values],
    *,
    labels: tuple[str, ...] = (),
) -> Series:
    found = [
        ((run.id, run.name, run.project, *more), value)
        for run in runs
        for more, value in values(run)
    ]
    return Series(name, what, ("run", "name", "project", *labels), found)


def _if_known(value: float | None) -> Values:
    return [] if value is None else [((), value)]


def _share_done(run: ActiveRun) -> Values:
    progress = run.progress
    if progress is None or progress.steps < 1:
        return []
    return [((), min(1.0, max(0.0, progress.step / progress.steps)))]


def _losses(run: ActiveRun) -> Iterator[tuple[Sequence[str], float]]:
    for key, value in run.latest.items():
        if key.startswith(_TRAIN) and "loss" in key:
            yield (key.removeprefix(_TRAIN),), value


def _maps(run: ActiveRun) -> Iterator[tuple[Sequence[str], float]]:
    for prefix, whose in ((_STUDENT, "student"), (_TEACHER, "teacher")):
        for key, value in run.latest.items():
            # COCO says -1 where no object is of the size.
            if key.startswith(prefix + _MAP) and value >= 0.0:
                yield (key.removeprefix(prefix), whose), value
