"""Clocks: the system's, and a manual one for tests and simulations."""

from datetime import UTC, datetime, timedelta


class SystemClock:
    """Implements `ports.Clock` by the system's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """Implements `ports.Clock`; advances only when `advance` is called."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the clock by a number of seconds."""
        self._now += timedelta(seconds=seconds)
