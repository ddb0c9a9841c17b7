"""Records arrive once and in order, however often the sink is unavailable."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from configs.protocol.records import Metrics, Record
from tests.support.waiting import wait_until
from tests.support.workers.records import make_train_metrics
from workers.telemetry.shipper import Shipper, SinkRefused, SinkUnavailable
from workers.telemetry.spool import Spool

wait_for = partial(wait_until, timeout_s=10)


class SimulatedSink:
    """A sink that is unavailable at first, and stores what it gets."""

    name = "the place"
    pause_s = 0.0

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.kept: list[int] = []
        self.heartbeats = 0

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        if self.failures > 0:
            self.failures -= 1
            raise SinkUnavailable("closed")
        self.heartbeats += not records
        steps = [record.step for record in records if isinstance(record, Metrics)]
        self.kept += steps[max(0, len(self.kept) - first) :]
        return first + len(records)


class Refusing(SimulatedSink):
    def deliver(self, first: int, records: Sequence[Record]) -> int:
        raise SinkRefused("another attempt")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    new_spool = Spool(tmp_path / "spool.jsonl")
    for step in range(4):
        new_spool.append(make_train_metrics(step, loss=1.0))
    yield new_spool
    new_spool.close()


def make_shipper(spool: Spool, sink: SimulatedSink, folder: Path) -> Shipper[Any]:
    shipper = Shipper(spool, sink, position_file=folder / "position", heartbeat_s=0.02)
    shipper.start()
    return shipper


def test_records_arrive_once_and_in_order_after_an_outage(spool: Spool, tmp_path: Path) -> None:
    sink = SimulatedSink(failures=2)
    shipper = make_shipper(spool, sink, tmp_path)
    spool.append(make_train_metrics(4, loss=1.0))

    is_drained = shipper.drain(time.monotonic() + 10)
    shipper.stop()

    assert is_drained
    assert sink.kept == [0, 1, 2, 3, 4]


def test_another_process_continues_at_the_saved_position(spool: Spool, tmp_path: Path) -> None:
    first = make_shipper(spool, SimulatedSink(), tmp_path)
    assert first.drain(time.monotonic() + 10)
    first.stop()
    spool.append(make_train_metrics(9, loss=1.0))

    sink = SimulatedSink()
    second = make_shipper(spool, sink, tmp_path)
    assert second.drain(time.monotonic() + 10)
    second.stop()

    assert sink.kept == [9]


def test_silence_is_a_heartbeat(spool: Spool, tmp_path: Path) -> None:
    sink = SimulatedSink()
    shipper = make_shipper(spool, sink, tmp_path)

    wait_for(lambda: sink.heartbeats >= 2)
    shipper.stop()


def test_a_drain_ends_in_time_and_says_what_is_left(spool: Spool, tmp_path: Path) -> None:
    shipper = make_shipper(spool, SimulatedSink(failures=1000), tmp_path)

    is_drained = shipper.drain(time.monotonic() + 0.1)
    pending = shipper.pending
    shipper.stop()

    assert not is_drained
    assert pending == 4


def test_a_refusal_is_final(spool: Spool, tmp_path: Path) -> None:
    shipper = make_shipper(spool, Refusing(), tmp_path)

    wait_for(lambda: shipper.is_refused)
    shipper.stop()

    assert shipper.pending == 4
