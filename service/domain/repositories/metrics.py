"""Interface of what the metrics endpoint reads."""

from datetime import datetime
from typing import Protocol

from service.domain.metrics.runs import ActiveRun
from service.domain.metrics.series import Usage
from service.domain.states import RunState


class MetricsQueries(Protocol):
    """Counts and sums over runs and attempts."""

    def count_runs(self) -> dict[tuple[RunState, str], int]:
        """How many runs there are, by state and project."""

    def count_attempts_by_reason(self) -> dict[str | None, int]:
        """How many attempts have ended, by cause."""

    def oldest_by_project(self, state: RunState) -> dict[str, datetime]:
        """Since when the run is in a state that is longest in it, by project."""

    def active_runs(self) -> list[ActiveRun]:
        """Runs that start or train, oldest first."""

    def count_untracked(self) -> int:
        """Runs that are over, and not yet for the tracker."""

    def ended_usage(self, since: datetime | None) -> list[Usage]:
        """What attempts had that ended after a moment; none: all that ended."""

    def active_usage(self, now: datetime) -> list[Usage]:
        """What attempts have that go on."""
