"""Interface of stored sweeps and their logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from configs.protocol.sweep_log import SweepEntry
from service.domain.sweeps import Sweep, SweepState


@dataclass(frozen=True)
class SweepFilter:
    """Which sweeps to list, newest first; `before` is the id to go on from."""

    state: SweepState | None = None
    project: str | None = None
    before: str | None = None
    limit: int = 50


class Sweeps(Protocol):
    """Sweeps and their lists, as stored."""

    def lock_inserts(self) -> None:
        """Until the end of the transaction no other one adds sweeps."""

    def add(self, sweep: Sweep, *, key: str | None = None, digest: str | None = None) -> None:
        """Store a new sweep, and the idempotency key that made it; after `alone`."""

    def get(self, sweep_id: str) -> Sweep:
        """The sweep as it is; `SweepNotFound` if there is none."""

    def get_for_update(self, sweep_id: str) -> Sweep:
        """The sweep to be changed: until the end of the transaction nobody else changes it."""

    def save(self, sweep: Sweep) -> None:
        """Store a changed sweep."""

    def page(self, which: SweepFilter) -> list[Sweep]:
        """Newest first."""

    def in_states(self, *states: SweepState) -> list[Sweep]:
        """All sweeps in these states, oldest first."""

    def not_synced(self) -> list[Sweep]:
        """Sweeps of which MLflow does not show everything yet, oldest first."""

    def find_idempotency_key(self, key: str) -> tuple[str, str] | None:
        """Request digest and sweep id of an idempotency key."""

    def entries(self, sweep_id: str, *, first: int = 0) -> list[SweepEntry]:
        """A sweep's list from a position on."""

    def new_entries(self, known: Mapping[str, int]) -> dict[str, list[SweepEntry]]:
        """By sweep, what its list has beyond the entries that are known."""

    def append(self, sweep_id: str, entries: Sequence[SweepEntry], *, first: int) -> None:
        """Write entries from position `first` on; who `take`s the sweep knows where that is."""

    def length(self, sweep_id: str) -> int:
        """How many entries a sweep's list has."""
