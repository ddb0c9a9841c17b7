"""What the domain needs of the world, as small protocols; the simulated twins are in adapters."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from configs.spec import DatasetManifest, Metrics, Record, Task
from service.domain.access import AuditEntry, Token
from service.domain.policy import Job
from service.domain.projects import Project
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.runs import Attempt, Event, Run
from service.domain.states import RunState
from service.domain.tracking import TrackerStatus


@dataclass(frozen=True)
class Order:
    """A job to submit: its command line and what it takes."""

    submission_id: str
    command: tuple[str, ...]
    num_cpus: int
    num_gpus: int
    metadata: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    """What its processes find in their environment."""

    avoid: frozenset[str] = frozenset()
    """Nodes where it is not to run."""

    node_id: str | None = None
    """The only node where it is to run; none: any."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster."""

    total_cpus: float
    total_gpus: float
    free_cpus: float
    free_gpus: float
    id: str = ""
    """As the cluster knows it; empty: one that could be added."""


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
    task: Task | None = None
    project: str | None = None
    preset: str | None = None
    tag: tuple[str, str] | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True)
class Claim:
    """A run that is ours to look after."""

    run: Run
    taken_from: str | None
    """Who had it before; none: nobody, or ourselves."""


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

    def jobs(self) -> dict[str, Job]:
        """Every job that the cluster knows, by its submission id."""

    def stop(self, submission_id: str) -> None:
        """Ask a job to end: SIGTERM, later SIGKILL."""

    def logs(self, submission_id: str) -> str:
        """Everything the job has written; empty if the job is unknown."""

    def nodes(self) -> tuple[Node, ...]:
        """The machines there are."""


class Tracker(Protocol):
    """Where numbers are compared. Every method may raise `TrackerUnreachable`."""

    def find(self, run_id: str, *, project: str) -> str | None:
        """The id of the MLflow run of a run of a project."""

    def status(self, mlflow_run_id: str) -> TrackerStatus | None:
        """What the tracker shows; none if it does not know the run."""

    def set_status(self, mlflow_run_id: str, status: TrackerStatus, *, at: datetime) -> None:
        """Show a status; `TrackerRefused` if the tracker never will."""


class Files(Protocol):
    """The folders of runs, datasets and teachers."""

    def run_dir(self, run_id: str) -> Path:
        """A run's folder."""

    def manifest(self, root: Path) -> DatasetManifest:
        """The manifest of the dataset in a folder; `PathRefused` if there is none."""

    def folder(self, path: Path, *, field: str) -> Path:
        """A folder's path, resolved; `PathRefused` if it is none or leaves the allowed roots."""

    def file(self, path: Path, *, field: str) -> Path:
        """A file's path, resolved; `PathRefused` if it is none or leaves the allowed roots."""

    def has(self, path: Path) -> bool:
        """Whether there is such a file."""

    def sha256(self, path: Path) -> str | None:
        """A file's digest; none if there is no such file."""

    def write(self, path: Path, text: str, *, is_secret: bool = False) -> None:
        """Write a whole file or none; a secret one is for its owner's eyes only."""

    def spool_records(self, run_id: str, position: int) -> list[Record]:
        """Records of a run's spool from `position` on."""

    def text(self, path: Path, *, offset: int = 0, limit: int = -1) -> bytes:
        """A file from `offset` on, up to `limit` bytes; nothing if there is none."""


class LogStore(Protocol):
    """Logs of attempts, kept where no node or head takes them along."""

    def append(self, run_id: str, attempt: int, *, offset: int, content: bytes) -> int:
        """Keep what is new of `content`; returns the offset to go on from."""

    def end(self, run_id: str, attempt: int) -> int:
        """How many bytes there are."""

    def read(self, run_id: str, attempt: int, *, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset` on."""


class Runs(Protocol):
    """Runs as stored."""

    def alone(self) -> None:
        """Until the end of the transaction no other one adds runs."""

    def add(self, run: Run) -> None:
        """Store a new run; after `alone`."""

    def get(self, run_id: str) -> Run:
        """The run as it is; `RunNotFound` if there is none."""

    def take(self, run_id: str, *, owner: str | None = None) -> Run:
        """The run to be changed; given an `owner`, `LeaseLost` if another one looks after it."""

    def claim(self, *states: RunState, owner: str, now: datetime, until: datetime) -> list[Claim]:
        """Runs that no other owner looks after: ours until `until`, oldest first."""

    def release(self, owner: str) -> None:
        """Give all leases of `owner` back."""

    def save(self, run: Run) -> None:
        """Store a changed run."""

    def page(self, which: RunFilter) -> list[Run]:
        """Newest first."""

    def in_states(self, *states: RunState) -> list[Run]:
        """All runs in these states, oldest first."""

    def to_settle(self) -> list[Run]:
        """Runs that are over for us and not yet for MLflow."""

    def count_by_state(self) -> dict[RunState, int]:
        """How many runs are in each state."""

    def key_owner(self, key: str) -> tuple[str, str] | None:
        """Request digest and run id of an idempotency key."""

    def remember_key(self, key: str, *, request_digest: str, run_id: str) -> None:
        """Bind an idempotency key to a run."""


class Attempts(Protocol):
    """Tries of runs; a number and a submission id are given once."""

    def add(self, attempt: Attempt) -> None:
        """Store a new attempt."""

    def save(self, attempt: Attempt) -> None:
        """Store a changed attempt."""

    def get(self, run_id: str, number: int) -> Attempt | None:
        """One attempt."""

    def of_run(self, run_id: str) -> list[Attempt]:
        """By number."""

    def by_submission(self, submission_id: str) -> Attempt | None:
        """The attempt with this Ray job."""

    def current(self) -> dict[str, Attempt]:
        """The last attempt of every run that has one now, by run."""

    def ended_since(self, moment: datetime) -> list[Attempt]:
        """Those that ended since, in the order in which they did."""


class Events(Protocol):
    """What happened, append-only."""

    def add(self, event: Event) -> None:
        """Append."""

    def of_run(self, run_id: str) -> list[Event]:
        """In the order they happened."""

    def after(
        self, last: int, *, run_id: str | None, project: str | None, limit: int
    ) -> list[Event]:
        """Those with a larger number, of all runs, in their order."""

    def last_id(self) -> int:
        """The largest number that is given; 0 before the first."""


class Points(Protocol):
    """Metric values; the same (run, key, step) is kept once."""

    def add(self, run_id: str, records: list[Metrics]) -> None:
        """Store values; those that are there stay."""

    def of_run(self, run_id: str, *, key: str | None) -> list[MetricPoint]:
        """By key, then step."""


class Registry(Protocol):
    """Datasets and teachers by name."""

    def dataset(self, name: str) -> RegisteredDataset | None:
        """The dataset with this name."""

    def datasets(self) -> list[RegisteredDataset]:
        """By name."""

    def put_dataset(self, dataset: RegisteredDataset) -> None:
        """Add or replace."""

    def teacher(self, name: str) -> RegisteredTeacher | None:
        """The teacher with this name."""

    def teachers(self) -> list[RegisteredTeacher]:
        """By name."""

    def put_teacher(self, teacher: RegisteredTeacher) -> None:
        """Add or replace."""


class Projects(Protocol):
    """How much of the cluster each project's runs may take."""

    def all(self) -> list[Project]:
        """Those that somebody set, by name."""

    def get(self, name: str) -> Project:
        """One project; as `Project` says if nobody set it."""

    def put(self, project: Project) -> None:
        """Add or replace."""


class Duties(Protocol):
    """What one service process at a time does."""

    def hold(self, name: str, *, owner: str, now: datetime, until: datetime) -> bool:
        """Whether `owner` has the duty until `until`."""

    def release(self, owner: str) -> None:
        """Give all duties of `owner` back."""


class Tokens(Protocol):
    """Who has access."""

    def get(self, token_id: str) -> Token | None:
        """The token with this id."""

    def all(self) -> list[Token]:
        """The newest first."""

    def put(self, token: Token) -> None:
        """Add or replace."""


class Audit(Protocol):
    """Requests that were to change something, append-only."""

    def add(self, entry: AuditEntry) -> None:
        """Append."""

    def page(self, *, before: int | None, limit: int) -> list[AuditEntry]:
        """The newest first."""


class Unit(Protocol):
    """One transaction."""

    @property
    def runs(self) -> Runs:
        """Runs."""

    @property
    def attempts(self) -> Attempts:
        """Tries of runs."""

    @property
    def events(self) -> Events:
        """What happened."""

    @property
    def points(self) -> Points:
        """Metric values."""

    @property
    def registry(self) -> Registry:
        """Datasets and teachers."""

    @property
    def projects(self) -> Projects:
        """Projects."""

    @property
    def tokens(self) -> Tokens:
        """Who has access."""

    @property
    def audit(self) -> Audit:
        """Who changed what."""

    @property
    def duties(self) -> Duties:
        """What one service process at a time does."""


class Store(Protocol):
    """Makes transactions: committed at the end, rolled back on an error."""

    def begin(self) -> AbstractContextManager[Unit]:
        """One transaction."""

    def migrate(self) -> None:
        """Bring the schema to the newest version."""
