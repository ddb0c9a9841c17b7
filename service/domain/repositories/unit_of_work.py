"""Transactions of the store, each with all repositories; `service.store` implements them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol, TypeVar

from service.domain.repositories.access import AuditLog, Projects, Tokens
from service.domain.repositories.autopilots import Autopilots
from service.domain.repositories.baselines import Baselines, Comparisons
from service.domain.repositories.idempotency import IdempotencyKeys
from service.domain.repositories.metrics import MetricsQueries
from service.domain.repositories.registry import Registry
from service.domain.repositories.retention import Retention
from service.domain.repositories.runs import Attempts, Events, MetricPoints, Runs
from service.domain.repositories.sweeps import Sweeps

Written = TypeVar("Written")


class LeaderLeases(Protocol):
    """Leases of the tasks that one service process at a time performs."""

    def acquire(self, name: str, *, owner: str, now: datetime, until: datetime) -> bool:
        """Acquire a lease, or renew it if at most half of it is left.

        False if another owner holds it and it has not expired.
        """

    def release(self, owner: str) -> None:
        """Release all leases of an owner."""


class UnitOfWork(Protocol):
    """The repositories of one transaction."""

    @property
    def runs(self) -> Runs: ...

    @property
    def sweeps(self) -> Sweeps: ...

    @property
    def autopilots(self) -> Autopilots: ...

    @property
    def idempotency_keys(self) -> IdempotencyKeys: ...

    @property
    def attempts(self) -> Attempts: ...

    @property
    def events(self) -> Events: ...

    @property
    def metric_points(self) -> MetricPoints: ...

    @property
    def baselines(self) -> Baselines: ...

    @property
    def comparisons(self) -> Comparisons: ...

    @property
    def registry(self) -> Registry: ...

    @property
    def projects(self) -> Projects: ...

    @property
    def tokens(self) -> Tokens: ...

    @property
    def audit(self) -> AuditLog: ...

    @property
    def metrics(self) -> MetricsQueries: ...

    @property
    def retention(self) -> Retention: ...

    @property
    def leader_leases(self) -> LeaderLeases: ...


class Store(Protocol):
    """The database of the service."""

    def transaction(self) -> AbstractContextManager[UnitOfWork]:
        """A transaction, which commits at the end and rolls back on an error.

        Raises `DatabaseUnreachable` if the database goes away, is locked or full.
        """

    def snapshot(self) -> AbstractContextManager[UnitOfWork]:
        """A transaction that only reads. It sees the database as of its first statement, waits for
        no writer and keeps none waiting; a write in it raises `RuntimeError`.

        Raises `DatabaseUnreachable` as `transaction` does.
        """

    def write_together(self, write: Callable[[UnitOfWork], Written]) -> Written:
        """Call `write` in a transaction that concurrent calls may share; returns its result after
        the commit.

        For short writes of many threads at once. `write` may be called twice, and an error of it
        undoes only what itself wrote. Raises `DatabaseUnreachable` as `transaction` does.
        """

    def migrate(self) -> None:
        """Upgrade the schema to the newest version; raises `SchemaUnknown` if it is newer."""
