"""Pauses between the turns of a loop."""

import threading
import time
from itertools import pairwise

import pytest

from service.domain.errors.systems import ClusterUnreachable
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


def test_a_loop_that_is_woken_turns_at_once() -> None:
    wake, turns = threading.Event(), threading.Semaphore(0)
    loop = Loop("test", turns.release, interval_s=600, wake=wake)
    loop.start()
    assert turns.acquire(timeout=10)

    wake.set()

    assert turns.acquire(timeout=10)
    loop.stop(timeout_s=10)


def test_a_loop_that_cannot_be_woken_waits_for_its_interval() -> None:
    wake, has_turned = threading.Event(), threading.Event()
    starts: list[float] = []

    def step() -> None:
        starts.append(time.monotonic())
        wake.set()
        if len(starts) == 2:
            has_turned.set()

    loop = Loop("test", step, interval_s=0.5, wake=wake, can_be_woken=lambda: False)
    loop.start()
    assert has_turned.wait(10)
    loop.stop(timeout_s=10)

    assert starts[1] - starts[0] >= 0.5


def test_what_wakes_a_loop_during_its_turn_is_not_missed() -> None:
    wake, turns = threading.Event(), threading.Semaphore(0)
    is_first = iter([True])

    def step() -> None:
        if next(is_first, False):
            wake.set()
        turns.release()

    loop = Loop("test", step, interval_s=600, wake=wake)
    loop.start()

    assert turns.acquire(timeout=10)
    assert turns.acquire(timeout=10)
    loop.stop(timeout_s=10)


def test_a_loop_that_is_woken_all_the_time_rests_after_each_turn() -> None:
    wake, has_turned = threading.Event(), threading.Event()
    starts: list[float] = []

    def step() -> None:
        starts.append(time.monotonic())
        wake.set()
        if len(starts) == 4:
            has_turned.set()

    loop = Loop("test", step, interval_s=600, wake=wake)
    loop.start()
    assert has_turned.wait(10)
    loop.stop(timeout_s=10)

    pauses_s = [later - earlier for earlier, later in pairwise(starts)]
    assert min(pauses_s) >= 0.1


def test_a_loop_that_is_woken_while_a_system_is_down_backs_off() -> None:
    wake, has_turned = threading.Event(), threading.Event()
    starts: list[float] = []

    def step() -> None:
        starts.append(time.monotonic())
        wake.set()
        if len(starts) == 2:
            has_turned.set()
        raise ClusterUnreachable("away")

    loop = Loop("test", step, interval_s=0.2, wake=wake)
    loop.start()
    assert has_turned.wait(10)
    loop.stop(timeout_s=10)

    assert starts[1] - starts[0] >= 0.4
