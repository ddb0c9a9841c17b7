"""Counters of this process; what the database knows is queried instead."""

from typing import Protocol


class Counters(Protocol):
    """Counts events of this process for Prometheus."""

    def count(self, name: str, amount: float = 1.0) -> None:
        """Add to a counter that `COUNTER_DESCRIPTIONS` names."""


COUNTER_DESCRIPTIONS = {
    "lease_conflicts": "Steps that were abandoned because another process had the run's lease.",
    "leases_taken_over": "Runs whose lease this process took over from another one.",
    "deliveries": "Deliveries from workers, heartbeats included.",
    "records": "New records from workers.",
    "log_bytes": "Bytes of workers' logs that were stored.",
    "preemptions": "Runs that were preempted for another one.",
}
"""Every counter by its name without the prefix."""


class NullCounters:
    """Implements `Counters`; counts nothing."""

    def count(self, name: str, amount: float = 1.0) -> None: ...


NULL_COUNTERS = NullCounters()
