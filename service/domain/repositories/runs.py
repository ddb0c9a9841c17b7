"""Repositories of runs, attempts, events and metric points."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from configs.protocol.records import Metrics
from configs.spec.base import Task
from service.domain.runs import Attempt, Event, MetricPoint, Run
from service.domain.states import RunState
from service.domain.vocabulary import EventKind, RunOrder


@dataclass(frozen=True)
class RunFilter:
    """Selects a page of runs; None, and no states or tasks, match all."""

    id_prefix: str | None = None
    states: tuple[RunState, ...] = ()
    tasks: tuple[Task, ...] = ()
    project: str | None = None
    preset: str | None = None
    dataset: str | None = None
    tag: tuple[str, str] | None = None
    sweep: str | None = None
    trial: int | None = None
    order: RunOrder = "newest"
    before: str | None = None
    """The id of the last run of the page before."""

    limit: int = 50


@dataclass(frozen=True)
class RunLease:
    """A lease that a process has acquired or renewed."""

    run_id: str
    previous_owner: str | None
    """Whose lease expired; None if there was no lease, or it was ours."""


@dataclass(frozen=True)
class NewestAttempt:
    """The newest attempt of a run."""

    number: int
    """0 before the first attempt."""

    is_run_over: bool


@dataclass(frozen=True)
class ProjectEvent:
    """An event, and the project of its run."""

    event: Event
    project: str


class QueueState(NamedTuple):
    """What may change of a run in the queue, without the rest of its row."""

    run_id: str
    updated_at: datetime
    attempt: int
    not_before: datetime | None
    priority: int
    waiting_for: str | None


class Runs(Protocol):
    """Stores runs."""

    def lock_inserts(self) -> None:
        """Keep other transactions from adding runs until this one ends."""

    def add(self, *runs: Run) -> None:
        """Add runs, in this order, after `lock_inserts`."""

    def get(self, run_id: str) -> Run:
        """The run; raises `RunNotFound`."""

    def get_for_update(self, run_id: str, *, owner: str | None = None) -> Run:
        """The run, locked until the transaction ends; raises `RunNotFound`.

        With an `owner`, raises `LeaseLost` if another process has the lease of the run.
        """

    def lease(
        self, *states: RunState, owner: str, now: datetime, until: datetime, limit: int
    ) -> list[RunLease]:
        """Acquire leases of runs in these states, or renew those with less than half left.

        At most `limit`, oldest first. Runs that another owner has leased, or another transaction
        has locked, are left out.
        """

    def leased_by(self, owner: str, *states: RunState) -> list[Run]:
        """The runs in these states that an owner has leased, oldest first."""

    def release(self, owner: str) -> None:
        """Release the leases of all runs that an owner has."""

    def save(self, run: Run) -> None:
        """Store a changed run."""

    def page(self, run_filter: RunFilter) -> list[Run]:
        """The matching runs, in the order of the filter."""

    def page_by_id(self, *, after: str, limit: int) -> list[Run]:
        """The runs whose ids follow `after`, by id: a walk through all runs, whatever is added or
        removed meanwhile. The first page follows an empty text."""

    def find_existing(self, run_ids: Collection[str]) -> set[str]:
        """Those of the ids that a run has."""

    def in_states(self, *states: RunState) -> list[Run]:
        """All runs in these states, oldest first."""

    def running_in_mlflow(self) -> dict[str, str]:
        """The ids that MLflow has for the running runs which it knows, by run id."""

    def queue_states(self) -> list[QueueState]:
        """All queued runs, oldest first, without their specs."""

    def queued(self, run_ids: Collection[str]) -> list[Run]:
        """Those of the runs that are queued, oldest first."""

    def states_of(self, run_ids: Collection[str]) -> dict[str, RunState]:
        """The states of runs by id; runs that do not exist are left out."""

    def queue_position(self, run: Run) -> int:
        """The position of a queued run in its project's queue, counted from 1.

        Runs are ordered by priority, then by age.
        """

    def set_waiting_for(self, reasons: Mapping[str, str]) -> list[str]:
        """Store by id what queued runs wait for; returns the ids where it was something else.

        Rows are locked in the order of their ids.
        """

    def of_pack(self, job: str) -> list[Run]:
        """Runs whose current attempt is in this pack and not over, oldest first."""

    def of_sweep(self, sweep_id: str, *, trials: Collection[int] | None = None) -> list[Run]:
        """The runs of a sweep, or of some of its trials only, oldest first."""

    def not_synced(self) -> list[Run]:
        """Runs that are over, but not yet in MLflow, oldest first."""


class Attempts(Protocol):
    """Stores attempts; the numbers of a run's attempts and all submission ids are unique."""

    def add(self, attempt: Attempt) -> None:
        """Add an attempt; its number and submission id must be new."""

    def save(self, attempt: Attempt) -> None:
        """Store a changed attempt."""

    def get(self, run_id: str, number: int) -> Attempt | None:
        """The attempt, or None if the run has none with this number."""

    def of_run(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[Attempt]:
        """Up to `limit` attempts of a run with numbers above `after`, by number."""

    def newest_of_runs(self, run_ids: Collection[str]) -> dict[str, NewestAttempt]:
        """By run, its newest attempt; unknown runs are left out."""

    def of_runs(self, run_ids: Collection[str]) -> dict[str, list[Attempt]]:
        """The attempts of several runs, by run and number; runs without one are left out."""

    def of_sweep(self, sweep_id: str) -> list[Attempt]:
        """The attempts of all runs of a sweep."""

    def by_submission(self, submission_id: str) -> Attempt | None:
        """The attempt with this submission id, or None."""

    def of_pack(self, job: str) -> list[Attempt]:
        """The attempts that share a Ray job."""

    def current(self) -> dict[str, Attempt]:
        """By run, the current attempts of all runs that start or train."""

    def ended_since(self, moment: datetime) -> list[Attempt]:
        """Attempts that ended at or after a moment, in the order in which they did."""


class Events(Protocol):
    """Stores events, append-only."""

    def add(self, *events: Event) -> None: ...

    def add_to_runs(
        self, run_ids: Collection[str], *, at: datetime, actor: str, kind: EventKind, details: str
    ) -> None:
        """Add an event with these values to each of the runs, without transitions."""

    def of_run(self, run_id: str) -> list[Event]:
        """The events of a run, oldest first."""

    def after(
        self, last: int, *, run_id: str | None, project: str | None, limit: int
    ) -> list[Event]:
        """Up to `limit` events with an id above `last`, oldest first."""

    def new(self, last: int, *, skipped: Collection[int], limit: int) -> list[ProjectEvent]:
        """Those events of `skipped` that exist, then up to `limit` with an id above `last`."""

    def ids_between(self, first: int, last: int) -> list[int]:
        """The ids from `first` to `last` that exist."""

    def last_transitions(self, run_ids: Collection[str]) -> dict[str, Event]:
        """The newest event of each run that says its state; runs without one are left out."""

    def last_id(self) -> int:
        """The largest id; 0 if there are no events."""


class MetricPoints(Protocol):
    """Stores metric values, one for each run, key and step."""

    def add(self, run_id: str, records: list[Metrics]) -> None:
        """Add the values of records; values that are stored already stay."""

    def of_run(self, run_id: str, *, key: str | None) -> list[MetricPoint]:
        """The values of a run by key, then step; only those of `key` unless it is None."""

    def of_runs(self, run_ids: Collection[str], *, key: str) -> dict[str, list[MetricPoint]]:
        """The values of a metric by run and step; runs without one are left out."""

    def page(
        self, run_id: str, *, key: str | None, after: tuple[str, int] | None, limit: int
    ) -> list[MetricPoint]:
        """As `of_run`, but up to `limit` values behind that of the key and step in `after`."""

    def means_of_run(self, run_id: str, *, prefix: str, every_steps: int) -> list[MetricPoint]:
        """Means over intervals of `every_steps` steps, of the keys that start with `prefix`.

        By key, then step; each point has the last step and time of its interval.
        """
