"""Queries for the metrics endpoint."""

from datetime import datetime
from typing import Protocol

from service.domain.metrics.runs import ActiveRun
from service.domain.metrics.series import ResourceTotals, Usage
from service.domain.states import RunState


class MetricsQueries(Protocol):
    """Counts and sums over runs and attempts."""

    def count_runs(self) -> dict[tuple[RunState, str], int]:
        """The number of runs by state and project."""

    def count_attempts_by_reason(self) -> dict[str | None, int]:
        """The number of attempts that have ended, by failure reason; None is success."""

    def list_projects(self) -> list[str]:
        """The names of the projects that have ever had a run."""

    def ended_totals(self) -> dict[str, ResourceTotals]:
        """By project, what all attempts that have ended used.

        A pack counts once, when all of its members have ended.
        """

    def oldest_by_project(self, state: RunState) -> dict[str, datetime]:
        """By project, since when the run that is longest in this state is in it."""

    def active_runs(self) -> list[ActiveRun]:
        """Runs that start or train, oldest first."""

    def count_untracked(self) -> int:
        """The number of runs that are over, but not yet in MLflow."""

    def active_usage(self, now: datetime) -> list[Usage]:
        """The usage of the current attempts until `now`; a pack counts once."""
