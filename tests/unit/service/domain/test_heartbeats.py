"""The interval of heartbeats, by the number of running runs."""

from datetime import timedelta

import pytest

from service.adapters.clock import FixedClock
from service.domain.heartbeats import RunningCount, choose_interval_s


@pytest.mark.parametrize(
    ("running", "interval_s"), [(0, 2.0), (100, 2.0), (200, 4.0), (500, 10.0), (5000, 10.0)]
)
def test_the_interval_grows_with_the_number_of_runs(running: int, interval_s: float) -> None:
    assert choose_interval_s(running, shortest_limit_s=30.0) == interval_s


def test_a_thousand_runs_send_at_most_a_hundred_heartbeats_a_second() -> None:
    assert 1000 / choose_interval_s(1000, shortest_limit_s=30.0) <= 100.0


def test_the_interval_is_a_small_part_of_each_time_limit() -> None:
    assert choose_interval_s(100_000, shortest_limit_s=12.0) == 4.0
    assert choose_interval_s(100_000, shortest_limit_s=1.0) == 2.0, "as for a few runs"


def test_runs_are_counted_every_ten_seconds() -> None:
    running, now, counts = RunningCount(), FixedClock().now(), iter((3, 7))
    assert running.get(lambda: next(counts), now=now) == 3
    assert running.get(lambda: next(counts), now=now + timedelta(seconds=9)) == 3
    assert running.get(lambda: next(counts), now=now + timedelta(seconds=10)) == 7
