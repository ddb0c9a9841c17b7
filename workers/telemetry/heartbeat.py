"""The heartbeat of the main loop, which the watchdog monitors."""

from datetime import UTC, datetime
from typing import Final

DEFAULT_STALL_TIMEOUT_S: Final = 300.0
"""Without a heartbeat for this long, the main loop counts as stalled."""


class Heartbeat:
    """Written by the main loop, read by the watchdog's thread."""

    def __init__(self) -> None:
        self.phase = "preparing"
        self.num_beats = 0
        self.last_beat_at = datetime.now(UTC)

    def beat(self, phase: str | None = None) -> None:
        """Record progress; `phase` is given where a new phase starts."""
        self.phase = phase or self.phase
        self.last_beat_at = datetime.now(UTC)
        self.num_beats += 1
