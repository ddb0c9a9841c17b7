"""Failing sinks: logged once, without lost records, and without blocking the trainer."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from configs.protocol.records import Record
from tests.support.waiting import wait_until
from tests.support.workers.records import make_metrics
from workers.telemetry.shipper import (
    Shipper,
    ShipperTiming,
    SinkProtocolError,
    SinkRefused,
    SinkUnavailable,
    drain_all,
)
from workers.telemetry.spool import Spool

AnyShipper = Shipper[Any]
FAST = ShipperTiming(
    batch_interval_s=0.0, initial_backoff_s=0.01, max_backoff_s=0.05, max_flush_backoff_s=0.05
)

wait_for = partial(wait_until, timeout_s=20, interval_s=0.005)


class SimulatedSink:
    """Raises the given errors first, and stores what it gets afterwards."""

    name = "the sink"
    pause_s = 0.0

    def __init__(self, *errors: Exception) -> None:
        self.troubles = list(errors)
        self.records: list[Record] = []
        self.calls = 0

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        self.calls += 1
        if self.troubles:
            raise self.troubles.pop(0)
        if first <= len(self.records):
            self.records += records[len(self.records) - first :]
        return len(self.records)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    shippers = Spool(tmp_path / "spool.jsonl")
    yield shippers
    shippers.close()


@pytest.fixture
def ship(spool: Spool, tmp_path: Path) -> Iterator[Callable[..., AnyShipper]]:
    shippers: list[AnyShipper] = []

    def start(
        sink: SimulatedSink, *, heartbeat_s: float = 30.0, pace: ShipperTiming = FAST
    ) -> AnyShipper:
        file = tmp_path / "spool.sink.position"
        shipper = Shipper(spool, sink, position_file=file, heartbeat_s=heartbeat_s, timing=pace)
        shipper.start()
        shippers.append(shipper)
        return shipper

    yield start
    for shipper in shippers:
        assert shipper.stop()


def test_many_records_arrive_once_and_in_order(
    spool: Spool, ship: Callable[..., AnyShipper]
) -> None:
    sink = SimulatedSink()
    shipper = ship(sink)

    for step in range(1200):
        spool.append(make_metrics(step))

    assert shipper.drain(compute_deadline())
    assert sink.records == [make_metrics(step) for step in range(1200)]


def test_records_of_an_outage_arrive_when_the_sink_is_available_again(
    spool: Spool, ship: Callable[..., AnyShipper], caplog: pytest.LogCaptureFixture
) -> None:
    sink = SimulatedSink(*[SinkUnavailable("connection refused") for _ in range(3)])
    shipper = ship(sink)

    for step in range(5):
        spool.append(make_metrics(step))

    assert shipper.drain(compute_deadline())
    assert sink.records == [make_metrics(step) for step in range(5)]
    assert [record.getMessage() for record in caplog.records] == [
        "the sink is unavailable (connection refused); training continues, records are delivered "
        "later.",
        "the sink is available again.",
    ]


@pytest.mark.parametrize("content", ["", "-5", "twelve", "99"])
def test_an_invalid_position_file_is_ignored(
    spool: Spool, ship: Callable[..., AnyShipper], tmp_path: Path, content: str
) -> None:
    (tmp_path / "spool.sink.position").write_text(content)
    spool.append(make_metrics(1))
    sink = SimulatedSink()
    shipper = ship(sink, heartbeat_s=0.02)

    wait_for(lambda: sink.records == [make_metrics(1)])

    assert shipper.drain(compute_deadline())


def test_a_sink_that_lost_records_gets_them_again(
    spool: Spool, ship: Callable[..., AnyShipper]
) -> None:
    sink = SimulatedSink()
    shipper = ship(sink)
    spool.append(make_metrics(1))
    spool.append(make_metrics(2))
    assert shipper.drain(compute_deadline())

    sink.records.clear()
    spool.append(make_metrics(3))

    wait_for(lambda: sink.records == [make_metrics(1), make_metrics(2), make_metrics(3)])


def test_a_refusal_ends_the_shipping(
    spool: Spool, ship: Callable[..., AnyShipper], caplog: pytest.LogCaptureFixture
) -> None:
    sink = SimulatedSink(SinkRefused("attempt 2 reports"))
    shipper = ship(sink)
    spool.append(make_metrics(1))

    wait_for(lambda: shipper.is_refused)

    assert not shipper.drain(compute_deadline())
    assert shipper.pending == 1
    assert sink.calls == 1
    assert "attempt 2 reports" in caplog.text


@pytest.mark.parametrize("error", [SinkProtocolError("HTTP 422"), ValueError("never foreseen")])
def test_a_fault_is_logged_once_and_the_thread_continues(
    spool: Spool,
    ship: Callable[..., AnyShipper],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    sink = SimulatedSink(error, error)
    shipper = ship(sink)
    spool.append(make_metrics(1))

    assert shipper.drain(compute_deadline())

    faults = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(faults) == 1
    assert str(error) in faults[0].getMessage()
    assert sink.records == [make_metrics(1)]


def test_a_position_that_cannot_be_written_does_not_end_the_shipping(
    spool: Spool, ship: Callable[..., AnyShipper], tmp_path: Path
) -> None:
    sink = SimulatedSink()
    shipper = ship(sink)
    position_file = tmp_path / "spool.sink.position"
    position_file.mkdir()

    spool.append(make_metrics(1))

    assert shipper.drain(compute_deadline())
    position_file.rmdir()
    spool.append(make_metrics(2))
    assert shipper.drain(compute_deadline())
    assert sink.records == [make_metrics(1), make_metrics(2)]


def test_a_drain_does_not_wait_for_a_pause_to_end(
    spool: Spool, ship: Callable[..., AnyShipper]
) -> None:
    sink = SimulatedSink(SinkProtocolError("look at this"))
    shipper = ship(sink, pace=replace(FAST, max_backoff_s=30.0))
    spool.append(make_metrics(1))
    wait_for(lambda: sink.calls == 1)
    started_s = time.monotonic()

    assert shipper.drain(compute_deadline())

    assert time.monotonic() - started_s < 5


def test_an_unavailable_sink_does_not_delay_the_flush_of_another(
    spool: Spool, tmp_path: Path
) -> None:
    unavailable = SimulatedSink(*[SinkUnavailable("away") for _ in range(1000)])
    recovering = SimulatedSink(SinkUnavailable("away"))
    slow = replace(FAST, initial_backoff_s=30.0, max_backoff_s=30.0)
    shippers = [
        Shipper(spool, sink, position_file=tmp_path / name, heartbeat_s=30.0, timing=slow)
        for name, sink in (("gone.position", unavailable), ("back.position", recovering))
    ]
    spool.append(make_metrics(1))
    for shipper in shippers:
        shipper.start()
    wait_for(lambda: unavailable.calls == 1 and recovering.calls == 1)

    assert not drain_all(shippers, time.monotonic() + 1.0)

    assert recovering.records == [make_metrics(1)]
    assert [shipper.stop() for shipper in shippers] == [True, True]


def test_stopping_does_not_wait_for_the_next_heartbeat(
    spool: Spool, ship: Callable[..., AnyShipper]
) -> None:
    sink = SimulatedSink()
    shipper = ship(sink)
    started_s = time.monotonic()

    assert shipper.stop()

    assert time.monotonic() - started_s < 1


def test_shipping_does_not_touch_the_random_state_that_training_draws_from(
    spool: Spool, ship: Callable[..., AnyShipper]
) -> None:
    before = random.getstate()
    sink = SimulatedSink(SinkUnavailable("away"), SinkUnavailable("away"))
    shipper = ship(sink)

    spool.append(make_metrics(1))
    assert shipper.drain(compute_deadline())

    assert random.getstate() == before


def compute_deadline() -> float:
    return time.monotonic() + 20
