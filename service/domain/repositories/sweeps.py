"""Repository of sweeps and their logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from configs.protocol.sweep_log import SweepEntry
from service.domain.sweeps import Sweep, SweepState


@dataclass(frozen=True)
class SweepFilter:
    """Selects a page of sweeps, newest first; None matches all."""

    id_prefix: str | None = None
    state: SweepState | None = None
    project: str | None = None
    before: str | None = None
    """The id of the last sweep of the page before."""

    limit: int = 50


class Sweeps(Protocol):
    """Stores sweeps and their logs."""

    def lock_inserts(self) -> None:
        """Keep other transactions from adding sweeps until this one ends."""

    def add(self, sweep: Sweep) -> None:
        """Add a sweep after `lock_inserts`."""

    def get(self, sweep_id: str) -> Sweep:
        """The sweep; raises `SweepNotFound`."""

    def find(self, sweep_id: str) -> Sweep | None:
        """The sweep, or None if there is none with this id."""

    def get_for_update(self, sweep_id: str) -> Sweep:
        """The sweep, locked until the transaction ends; raises `SweepNotFound`."""

    def save(self, sweep: Sweep) -> None:
        """Store a changed sweep."""

    def page(self, sweep_filter: SweepFilter) -> list[Sweep]:
        """The matching sweeps, newest first."""

    def in_states(self, *states: SweepState) -> list[Sweep]:
        """All sweeps in these states, oldest first."""

    def not_synced(self) -> list[Sweep]:
        """Sweeps that are not completely in MLflow yet, oldest first."""

    def entries(self, sweep_id: str, *, first: int = 0) -> list[SweepEntry]:
        """The log of a sweep from position `first` on."""

    def new_entries(self, lengths: Mapping[str, int]) -> dict[str, list[SweepEntry]]:
        """By sweep, the entries of its log beyond the given length."""

    def append(self, sweep_id: str, entries: Sequence[SweepEntry], *, first: int) -> None:
        """Append entries at position `first`; the caller holds the lock of `get_for_update`."""

    def length(self, sweep_id: str) -> int:
        """The number of entries in the log of a sweep."""
