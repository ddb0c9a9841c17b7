"""Waiting for other threads and processes."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.01
) -> None:
    """Poll until the condition holds; fail after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not hold in time"
        time.sleep(interval_s)
