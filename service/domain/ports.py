"""What the domain needs of the world, as small protocols; the simulated twins are in adapters."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from configs.spec import DatasetManifest, Metrics, Record
from service.domain.policy import Job
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.runs import Event, Run
from service.domain.states import RunState

TrackerStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Order:
    """A job to submit: its command line and what it takes."""

    submission_id: str
    command: tuple[str, ...]
    num_cpus: int
    num_gpus: int
    metadata: dict[str, str]


@dataclass(frozen=True)
class Node:
    """One machine of the cluster."""

    total_cpus: float
    total_gpus: float
    free_cpus: float
    free_gpus: float


@dataclass(frozen=True)
class MetricPoint:
    """One value of one metric."""

    key: str
    step: int
    value: float
    at: datetime


@dataclass(frozen=True)
class RunFilter:
    """Which runs to list, newest first; `before` is the id to go on from."""

    state: RunState | None = None
    preset: str | None = None
    tag: tuple[str, str] | None = None
    before: str | None = None
    limit: int = 50


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """An aware time in UTC."""


class Cluster(Protocol):
    """Where jobs run. Every method may raise `ClusterUnreachable`."""

    def submit(self, order: Order) -> None:
        """Submit a job; a second submit of the same id changes nothing."""

    def look(self, submission_id: str) -> Job | None:
        """What the cluster says of a job; none if it does not know it."""

    def stop(self, submission_id: str) -> None:
        """Ask a job to end: SIGTERM, later SIGKILL."""

    def logs(self, submission_id: str) -> str:
        """Everything the job has written; empty if the job is unknown."""

    def nodes(self) -> tuple[Node, ...]:
        """The machines there are."""


class Tracker(Protocol):
    """Where numbers are compared. Every method may raise `TrackerUnreachable`."""

    def find(self, run_id: str) -> str | None:
        """The id of the MLflow run of a run."""

    def set_status(self, mlflow_run_id: str, status: TrackerStatus, *, at: datetime) -> None:
        """Show a status."""


class Files(Protocol):
    """The folders of runs, datasets and teachers."""

    def run_dir(self, run_id: str) -> Path:
        """A run's folder."""

    def manifest(self, root: Path) -> DatasetManifest:
        """The manifest of the dataset in a folder; `PathRefused` if there is none."""

    def within_roots(self, path: Path, *, field: str) -> Path:
        """The path, resolved; `PathRefused` if it leaves the allowed folders or does not exist."""

    def write(self, path: Path, text: str) -> None:
        """Write a whole file or none."""

    def spool_records(self, run_id: str, position: int) -> list[Record]:
        """Records of a run's spool from `position` on."""

    def text(self, path: Path, *, offset: int = 0) -> bytes:
        """A file from `offset` on; nothing if there is none."""


class Runs(Protocol):
    """Runs as stored."""

    def add(self, run: Run) -> None: ...
    def get(self, run_id: str) -> Run: ...
    def save(self, run: Run) -> None: ...
    def page(self, which: RunFilter) -> list[Run]: ...
    def in_states(self, *states: RunState) -> list[Run]: ...
    def to_settle(self) -> list[Run]: ...
    def count_by_state(self) -> dict[RunState, int]: ...
    def key_owner(self, key: str) -> tuple[str, str] | None: ...
    def remember_key(self, key: str, *, request_digest: str, run_id: str) -> None: ...


class Events(Protocol):
    """What happened, append-only."""

    def add(self, event: Event) -> None: ...
    def of_run(self, run_id: str) -> list[Event]: ...


class Points(Protocol):
    """Metric values; the same (run, key, step) is kept once."""

    def add(self, run_id: str, records: list[Metrics]) -> None: ...
    def of_run(self, run_id: str, *, key: str | None) -> list[MetricPoint]: ...


class Registry(Protocol):
    """Datasets and teachers by name."""

    def dataset(self, name: str) -> RegisteredDataset | None: ...
    def datasets(self) -> list[RegisteredDataset]: ...
    def put_dataset(self, dataset: RegisteredDataset) -> None: ...
    def teacher(self, name: str) -> RegisteredTeacher | None: ...
    def teachers(self) -> list[RegisteredTeacher]: ...
    def put_teacher(self, teacher: RegisteredTeacher) -> None: ...


class Unit(Protocol):
    """One transaction."""

    @property
    def runs(self) -> Runs: ...
    @property
    def events(self) -> Events: ...
    @property
    def points(self) -> Points: ...
    @property
    def registry(self) -> Registry: ...


class Store(Protocol):
    """Makes transactions: committed at the end, rolled back on an error."""

    def begin(self) -> AbstractContextManager[Unit]: ...
