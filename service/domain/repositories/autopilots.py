"""Repository of autopilots, their histories and their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.domain.autopilot.autopilots import Autopilot, AutopilotJob, AutopilotPhase
from service.domain.autopilot.history import AutopilotEntry


@dataclass(frozen=True)
class AutopilotFilter:
    """Selects a page of autopilots, newest first; None matches all."""

    id_prefix: str | None = None
    phase: AutopilotPhase | None = None
    project: str | None = None
    before: str | None = None
    """The id of the last autopilot of the page before."""

    limit: int = 50


class Autopilots(Protocol):
    """Stores autopilots."""

    def lock_inserts(self) -> None:
        """Keep other transactions from adding autopilots until this one ends."""

    def add(self, autopilot: Autopilot) -> None:
        """Add an autopilot after `lock_inserts`."""

    def get(self, autopilot_id: str) -> Autopilot:
        """The autopilot; raises `AutopilotNotFound`."""

    def get_for_update(self, autopilot_id: str) -> Autopilot:
        """The autopilot, locked until the transaction ends; raises `AutopilotNotFound`."""

    def save(self, autopilot: Autopilot) -> None:
        """Store a changed autopilot."""

    def page(self, autopilot_filter: AutopilotFilter) -> list[Autopilot]:
        """The matching autopilots, newest first."""

    def in_phases(self, *phases: AutopilotPhase) -> list[Autopilot]:
        """All autopilots in these phases, oldest first."""

    def entries(self, autopilot_id: str) -> list[AutopilotEntry]:
        """The history of an autopilot, without what came of its runs."""

    def append(self, autopilot_id: str, entries: Sequence[AutopilotEntry], *, first: int) -> None:
        """Append decisions from position `first` on, after `get_for_update`."""

    def jobs(self, autopilot_id: str) -> list[AutopilotJob]:
        """The jobs of an autopilot, in the order in which they were added."""

    def add_job(self, autopilot_id: str, job: AutopilotJob) -> None:
        """Add a job with a new key, after `get_for_update`."""
