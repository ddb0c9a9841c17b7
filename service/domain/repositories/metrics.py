"""Interface of what the metrics endpoint reads."""

from datetime import datetime
from typing import Protocol

from service.domain.metrics.runs import RunAtWork
from service.domain.metrics.series import Use
from service.domain.states import RunState


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
