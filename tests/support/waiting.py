"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.01
) -> None:
    """Check until it is true; fail after `timeout_s`, which only a fault reaches."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(interval_s)
