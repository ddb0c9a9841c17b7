"""Records and specs of a training process."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from configs.protocol.records import Artifact, Metrics, Outcome, Progress, Started
from configs.spec.run import RunSpec
from tests.support.factories import make_spec

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DIGEST = "d" * 64


class TickingClock:
    """A clock that advances by a second whenever it is read."""

    def __init__(self) -> None:
        self._now = NOON

    def __call__(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


def make_run_spec(**changes: Any) -> RunSpec:
    data = {"dataset": {"root": "/data/pets"}, "image_size": [96, 96], "batch_size": 4}
    return RunSpec.model_validate(make_spec(data=data, **changes))


def make_metrics(
    step: int, at: datetime | None = None, attempt: int = 1, **values: float
) -> Metrics:
    values = values or {"loss": 1.0 / (step + 1)}
    at = at or NOON + timedelta(seconds=step)
    return Metrics(at=at, attempt=attempt, step=step, values=values)


def make_progress(step: int) -> Progress:
    return Progress(
        at=NOON, attempt=1, phase="training", epoch=1, epochs=2, step=step, steps=9, eta_s=None
    )


def make_started(attempt: int = 1) -> Started:
    return Started(
        at=NOON,
        attempt=attempt,
        host="node-1",
        pid=7,
        device="cpu",
        resumed_from_epoch=0,
        teacher_sha256=None,
        dataset_name="pets",
        dataset_digest=DIGEST,
        versions={"torch": "2.14.1"},
    )


def make_artifact(path: str) -> Artifact:
    return Artifact(at=NOON, attempt=1, path=path)


def make_outcome() -> Outcome:
    return Outcome(at=NOON + timedelta(hours=1), attempt=1, result="succeeded")


def append_torn_line(spool: Path) -> None:
    """Append an incomplete line, as a process does that is killed while it writes."""
    with spool.open("ab") as file:
        file.write(b'{"kind":"metrics","at":"2026-11-2')


START = datetime(2026, 1, 1, tzinfo=UTC)


def make_train_metrics(step: int, **values: float) -> Metrics:
    metrics = {f"train/{name}": value for name, value in values.items()}
    return Metrics(at=START + timedelta(seconds=step), attempt=1, step=step, values=metrics)
