"""Whether the main loop goes on, and what it is at."""

from datetime import UTC, datetime
from typing import Final

DEFAULT_STALL_TIMEOUT_S: Final = 300.0
"""Silence of the main loop, by default, after which it hangs."""


class Heartbeat:
    """The main loop beats it; the watchdog looks at it from its own thread."""

    def __init__(self) -> None:
        self.phase = "preparing"
        self.num_beats = 0
        self.last_beat_at = datetime.now(UTC)

    def beat(self, phase: str | None = None) -> None:
        """Say that something was done, or that another phase begins."""
        self.phase = phase or self.phase
        self.last_beat_at = datetime.now(UTC)
        self.num_beats += 1
