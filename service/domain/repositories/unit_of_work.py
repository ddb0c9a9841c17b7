"""What is kept, as small protocols: the database implements them."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from service.domain.repositories.access import AuditLog, Projects, Tokens
from service.domain.repositories.baselines import Baselines, Comparisons
from service.domain.repositories.metrics import MetricsQueries
from service.domain.repositories.registry import Registry
from service.domain.repositories.runs import Attempts, Events, MetricPoints, Runs
from service.domain.repositories.sweeps import Sweeps


class LeaderLeases(Protocol):
    """What one service process at a time does."""

    def acquire(self, name: str, *, owner: str, now: datetime, until: datetime) -> bool:
        """Whether `owner` has the duty until `until`."""

    def release(self, owner: str) -> None:
        """Give all duties of `owner` back."""


class UnitOfWork(Protocol):
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
    def metric_points(self) -> MetricPoints:
        """Metric values."""

    @property
    def baselines(self) -> Baselines:
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
    def audit(self) -> AuditLog:
        """Who changed what."""

    @property
    def metrics(self) -> MetricsQueries:
        """Counts and sums."""

    @property
    def leader_leases(self) -> LeaderLeases:
        """What one service process at a time does."""


class Store(Protocol):
    """Makes transactions: committed at the end, rolled back on an error."""

    def transaction(self) -> AbstractContextManager[UnitOfWork]:
        """One transaction."""

    def migrate(self) -> None:
        """Bring the schema to the newest version."""
