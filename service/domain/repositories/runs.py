"""Interfaces of stored runs, attempts, events and metric points."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from configs.protocol.records import Metrics
from configs.spec.jobs import Task
from service.domain.runs import Attempt, Event, MetricPoint, Run
from service.domain.states import RunState


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
class LeasedRun:
    """A run that is ours to look after."""

    run: Run
    previous_owner: str | None
    """Who had it before; none: nobody, or ourselves."""


class Runs(Protocol):
    """Runs as stored."""

    def lock_inserts(self) -> None:
        """Until the end of the transaction no other one adds runs."""

    def add(self, run: Run) -> None:
        """Store a new run; after `alone`."""

    def get(self, run_id: str) -> Run:
        """The run as it is; `RunNotFound` if there is none."""

    def get_for_update(self, run_id: str, *, owner: str | None = None) -> Run:
        """The run to be changed; given an `owner`, `LeaseLost` if another one looks after it."""

    def lease(
        self, *states: RunState, owner: str, now: datetime, until: datetime
    ) -> list[LeasedRun]:
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

    def not_synced(self) -> list[Run]:
        """Runs that are over for us and not yet for MLflow."""

    def find_idempotency_key(self, key: str) -> tuple[str, str] | None:
        """Request digest and run id of an idempotency key."""

    def add_idempotency_key(self, key: str, *, request_digest: str, run_id: str) -> None:
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


class MetricPoints(Protocol):
    """Metric values; the same (run, key, step) is kept once."""

    def add(self, run_id: str, records: list[Metrics]) -> None:
        """Store values; those that are there stay."""

    def of_run(self, run_id: str, *, key: str | None) -> list[MetricPoint]:
        """By key, then step."""
