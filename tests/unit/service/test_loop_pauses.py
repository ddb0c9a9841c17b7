"""Pauses between the turns of a loop."""

import threading
import time

import pytest

from service.loops.base import Loop


@pytest.mark.parametrize(("turn_s", "expected_pause_s"), [(0.0, 0.02), (0.1, 0.2)])
def test_a_loop_rests_twice_as_long_as_a_long_turn(turn_s: float, expected_pause_s: float) -> None:
    ends: list[float] = []
    starts: list[float] = []
    has_turned = threading.Event()

    def step() -> None:
        starts.append(time.monotonic())
        time.sleep(turn_s)
        ends.append(time.monotonic())
        if len(ends) == 3:
            has_turned.set()

    loop = Loop("test", step, interval_s=0.02)
    loop.start()
    assert has_turned.wait(10)
    loop.stop(timeout_s=10)

    pauses_s = [start - end for start, end in zip(starts[1:], ends[:-1], strict=False)]
    assert min(pauses_s) >= expected_pause_s
    # A loaded machine makes a pause longer, but not each of them.
    assert min(pauses_s) < expected_pause_s + 0.15
