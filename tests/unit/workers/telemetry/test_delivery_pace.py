"""The service asks for rarer deliveries: the real shipper, on a clock that waiting moves."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.protocol.records import Record
from tests.support.workers.fake_service import FakeService, Response, serve
from workers.telemetry import shipper as shipper_module
from workers.telemetry.service_sink import HEARTBEAT_S, ServiceSink
from workers.telemetry.shipper import Shipper, ShipperTiming

_BATCH_INTERVAL_S = ShipperTiming().batch_interval_s


class _Clock:
    """Stands for `threading` in the shipper: a wait moves the time on, a thread runs at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        waiting = self

        class Event:
            def __init__(self) -> None:
                self.is_set_ = False

            def set(self) -> None:
                self.is_set_ = True

            def is_set(self) -> bool:
                return self.is_set_

            def wait(self, timeout_s: float) -> None:
                waiting.now_s += 0.0 if self.is_set_ else timeout_s

        class Thread:
            def __init__(self, target: Callable[[], None], **_: Any) -> None:
                self.start = target

            def join(self, _timeout_s: float) -> None:
                pass

            def is_alive(self) -> bool:
                return False

        simulated = SimpleNamespace(Event=Event, Thread=Thread, Condition=threading.Condition)
        monkeypatch.setattr(shipper_module, "threading", simulated)


class _Source:
    """A spool that always or never has a new record."""

    def __init__(self, clock: _Clock, *, is_busy: bool) -> None:
        self._clock, self._is_busy = clock, is_busy

    def __len__(self) -> int:
        return 0

    def read(self, position: int, *, limit: int) -> Sequence[Record]:
        return []

    def wait_for_growth(self, position: int, *, timeout_s: float, **_: Any) -> bool:
        self._clock.now_s += 0.0 if self._is_busy else timeout_s
        return self._is_busy

    def wake(self) -> None:
        pass


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serve(FakeService()) as running:
        yield running


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    return _Clock(monkeypatch)


def ship(
    service: FakeService,
    clock: _Clock,
    folder: Path,
    answers: list[dict[str, Any]],
    *,
    is_busy: bool,
) -> list[float]:
    """Ship until each answer was given once; the seconds between the deliveries."""
    service.script = [Response(200, json.dumps(answer)) for answer in answers]
    sink = ServiceSink(service.url, run_id="r1", attempt=1)
    delivered_at_s: list[float] = []
    deliver = sink.deliver

    def deliver_timed(first: int, records: Sequence[Record]) -> int:
        delivered_at_s.append(clock.now_s)
        if len(delivered_at_s) == len(answers):
            shipper.stop()
        return deliver(first, records)

    sink.deliver = deliver_timed  # type: ignore[method-assign]
    shipper = Shipper(
        _Source(clock, is_busy=is_busy),
        sink,
        position_file=folder / "position",
        heartbeat_s=HEARTBEAT_S,
    )
    shipper.start()
    sink.close()
    return [later - at for at, later in pairwise(delivered_at_s)]


def test_heartbeats_are_as_rare_as_the_last_receipt_says(
    service: FakeService, clock: _Clock, tmp_path: Path
) -> None:
    answers = [{"next": 0, "next_due_s": due_s} for due_s in (2.0, 10.0, 4.0, 2.0)]

    intervals_s = ship(service, clock, tmp_path, answers, is_busy=False)

    assert intervals_s == pytest.approx([due_s + _BATCH_INTERVAL_S for due_s in (2.0, 10.0, 4.0)])


def test_records_are_gathered_until_a_delivery_is_due(
    service: FakeService, clock: _Clock, tmp_path: Path
) -> None:
    answers = [{"next": 0, "next_due_s": due_s} for due_s in (2.0, 10.0, 2.0)]

    intervals_s = ship(service, clock, tmp_path, answers, is_busy=True)

    assert intervals_s == pytest.approx([0.2, 10.0 - HEARTBEAT_S + 0.2])


def test_an_older_service_gets_a_heartbeat_every_two_seconds(
    service: FakeService, clock: _Clock, tmp_path: Path
) -> None:
    intervals_s = ship(service, clock, tmp_path, [{"next": 0}] * 3, is_busy=False)

    assert intervals_s == pytest.approx([HEARTBEAT_S + _BATCH_INTERVAL_S] * 2)


def test_no_service_makes_a_worker_silent_for_long(
    service: FakeService, clock: _Clock, tmp_path: Path
) -> None:
    answers = [{"next": 0, "next_due_s": 1e6}] * 2

    assert ship(service, clock, tmp_path, answers, is_busy=False)[0] < 45.0


def test_the_end_of_a_run_is_delivered_at_once(
    service: FakeService, clock: _Clock, tmp_path: Path
) -> None:
    service.script = [Response(200, json.dumps({"next": 0, "next_due_s": 10.0}))] * 2
    sink = ServiceSink(service.url, run_id="r1", attempt=1)
    shipper = Shipper(
        _Source(clock, is_busy=True), sink, position_file=tmp_path / "position", heartbeat_s=2.0
    )
    shipper._deliver_batch()
    shipper.flush()
    shipper._pause()
    sink.close()

    assert clock.now_s == 0.0
