"""What is counted while it happens; what can be asked of the database is not counted here."""

from typing import Protocol


class Counters(Protocol):
    """Counts."""

    def count(self, name: str, amount: float = 1.0) -> None:
        """Add to a counter of `COUNTER_DESCRIPTIONS`."""


COUNTER_DESCRIPTIONS = {
    "lease_conflicts": "Steps that were given up because another service process had the run.",
    "leases_taken_over": "Runs that this process took over from another one.",
    "deliveries": "Deliveries of workers, heartbeats included.",
    "records": "Records of workers that were new.",
    "log_bytes": "Bytes of workers' logs that were kept.",
    "preemptions": "Runs that were asked to make room for another.",
}
"""Every counter, with what it counts."""


class NullCounters:
    """Implements `Counters`: counts nothing."""

    def count(self, name: str, amount: float = 1.0) -> None:
        """Nothing."""


NULL_COUNTERS = NullCounters()
