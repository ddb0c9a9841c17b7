"""What is kept, as small protocols: the database implements them."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from service.domain.repositories.access import Audit, Projects, Tokens
from service.domain.repositories.baselines import Comparisons, Twins
from service.domain.repositories.metrics import Figures
from service.domain.repositories.registry import Registry
from service.domain.repositories.runs import Attempts, Events, Points, Runs
from service.domain.repositories.sweeps import Sweeps


class Duties(Protocol):
    """What one service process at a time does."""

    def hold(self, name: str, *, owner: str, now: datetime, until: datetime) -> bool:
        """Whether `owner` has the duty until `until`."""

    def release(self, owner: str) -> None:
        """Give all duties of `owner` back."""


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
