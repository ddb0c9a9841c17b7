"""What is kept, as small protocols: the database implements them."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from configs.spec import Metrics, SweepEntry, Task
from service.domain.access import AuditEntry, Token
from service.domain.comparisons import Comparisons, Twins
from service.domain.figures import Use
from service.domain.projects import Project
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.run_figures import RunAtWork
from service.domain.runs import Attempt, Event, Run
from service.domain.states import RunState
from service.domain.sweeps import Sweep, SweepState


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
    sweep: str | None = None
    trial: int | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True)
class Claim:
    """A run that is ours to look after."""

    run: Run
    taken_from: str | None
    """Who had it before; none: nobody, or ourselves."""


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

    def of_pack(self, job: str) -> list[Run]:
        """Those whose current attempt is part of a pack and not over, oldest first."""

    def of_sweep(self, sweep_id: str, *, trials: Collection[int] | None = None) -> list[Run]:
        """A sweep's runs, oldest first; of some of its trials only, if they are given."""

    def to_settle(self) -> list[Run]:
        """Runs that are over for us and not yet for MLflow."""

    def key_owner(self, key: str) -> tuple[str, str] | None:
        """Request digest and run id of an idempotency key."""

    def remember_key(self, key: str, *, request_digest: str, run_id: str) -> None:
        """Bind an idempotency key to a run."""


@dataclass(frozen=True)
class SweepFilter:
    """Which sweeps to list, newest first; `before` is the id to go on from."""

    state: SweepState | None = None
    project: str | None = None
    before: str | None = None
    limit: int = 50


class Sweeps(Protocol):
    """Sweeps and their lists, as stored."""

    def alone(self) -> None:
        """Until the end of the transaction no other one adds sweeps."""

    def add(self, sweep: Sweep, *, key: str | None = None, digest: str | None = None) -> None:
        """Store a new sweep, and the idempotency key that made it; after `alone`."""

    def get(self, sweep_id: str) -> Sweep:
        """The sweep as it is; `SweepNotFound` if there is none."""

    def take(self, sweep_id: str) -> Sweep:
        """The sweep to be changed: until the end of the transaction nobody else changes it."""

    def save(self, sweep: Sweep) -> None:
        """Store a changed sweep."""

    def page(self, which: SweepFilter) -> list[Sweep]:
        """Newest first."""

    def in_states(self, *states: SweepState) -> list[Sweep]:
        """All sweeps in these states, oldest first."""

    def to_settle(self) -> list[Sweep]:
        """Sweeps of which MLflow does not show everything yet, oldest first."""

    def key_owner(self, key: str) -> tuple[str, str] | None:
        """Request digest and sweep id of an idempotency key."""

    def entries(self, sweep_id: str, *, first: int = 0) -> list[SweepEntry]:
        """A sweep's list from a position on."""

    def new_entries(self, known: Mapping[str, int]) -> dict[str, list[SweepEntry]]:
        """By sweep, what its list has beyond the entries that are known."""

    def append(self, sweep_id: str, entries: Sequence[SweepEntry], *, first: int) -> None:
        """Write entries from position `first` on; who `take`s the sweep knows where that is."""

    def length(self, sweep_id: str) -> int:
        """How many entries a sweep's list has."""


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

    def of_sweep(self, sweep_id: str) -> list[Attempt]:
        """All tries of a sweep's runs."""

    def by_submission(self, submission_id: str) -> Attempt | None:
        """The attempt with this Ray job."""

    def of_pack(self, job: str) -> list[Attempt]:
        """Those that share a Ray job."""

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

    def note_use(self, token_id: str, *, at: datetime) -> None:
        """Write down when it was shown."""


class Audit(Protocol):
    """Requests that were to change something, append-only."""

    def add(self, entry: AuditEntry) -> None:
        """Append."""

    def page(self, *, before: int | None, limit: int) -> list[AuditEntry]:
        """The newest first."""


class Figures(Protocol):
    """Counts and sums over runs and attempts."""

    def runs(self) -> dict[tuple[RunState, str], int]:
        """How many runs there are, by state and project."""

    def attempts_by_reason(self) -> dict[str | None, int]:
        """How many attempts have ended, by cause."""

    def oldest_by_project(self, state: RunState) -> dict[str, datetime]:
        """Since when the run is in a state that is longest in it, by project."""

    def runs_at_work(self) -> list[RunAtWork]:
        """Runs that start or train, oldest first."""

    def unsettled(self) -> int:
        """Runs that are over, and not yet for the tracker."""

    def ended(self, since: datetime | None) -> list[Use]:
        """What attempts had that ended after a moment; none: all that ended."""

    def active(self, now: datetime) -> list[Use]:
        """What attempts have that go on."""


class Unit(Protocol):
    """One transaction."""

    @property
    def runs(self) -> Runs:
        """Runs."""

    @property
    def sweeps(self) -> Sweeps:
        """Sweeps and their lists."""

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
    def twins(self) -> Twins:
        """Runs that are equal but for something."""

    @property
    def comparisons(self) -> Comparisons:
        """What became of distilled runs beside their twins."""

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
    def figures(self) -> Figures:
        """Counts and sums."""

    @property
    def duties(self) -> Duties:
        """What one service process at a time does."""


class Store(Protocol):
    """Makes transactions: committed at the end, rolled back on an error."""

    def begin(self) -> AbstractContextManager[Unit]:
        """One transaction."""

    def migrate(self) -> None:
        """Bring the schema to the newest version."""
