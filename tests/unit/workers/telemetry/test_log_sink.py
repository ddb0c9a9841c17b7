"""An attempt's log is shipped while it grows, completely and in order."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.protocol.log_limits import LogLimits
from configs.protocol.names import LOG_CHUNK_BYTES, attempt_log_path
from tests.support.workers.fake_service import SUPERSEDED, FakeService, Response, serve
from tests.support.workers.reporters import open_reporter, wait_for
from workers.telemetry.log_sink import LogSink, build_log_shipper
from workers.telemetry.shipper import Shipper, ShipperTiming

FAST = ShipperTiming(
    batch_interval_s=0.0, initial_backoff_s=0.01, max_backoff_s=0.05, max_flush_backoff_s=0.05
)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serve(FakeService()) as running:
        yield running


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / attempt_log_path(2)
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture
def shipper(service: FakeService, log: Path) -> Iterator[Shipper[bytes]]:
    sink = LogSink(service.url, run_id="r1", attempt=2)
    running = build_log_shipper(sink, run_dir=log.parents[1], attempt=2, timing=FAST)
    running.start()
    yield running
    assert running.stop()
    sink.close()


def test_a_log_that_grows_arrives_byte_by_byte(
    service: FakeService, log: Path, shipper: Shipper[bytes]
) -> None:
    log.write_bytes("Käse\n".encode() * LOG_CHUNK_BYTES)
    wait_for(lambda: len(service.log) == log.stat().st_size)
    with log.open("ab") as file:
        file.write(b"the last line\n")

    assert shipper.drain(time.monotonic() + 10)
    assert bytes(service.log) == log.read_bytes()
    assert service.paths[0] == "/v1/runs/r1/attempts/2/log?offset=0"
    assert max(service.chunk_sizes) == LOG_CHUNK_BYTES


def test_an_outage_delays_the_log_and_loses_nothing(
    service: FakeService, log: Path, shipper: Shipper[bytes]
) -> None:
    service.script = [Response(503), Response(503), Response(200, "<html>")]

    log.write_bytes(b"a line\n" * 100)

    assert shipper.drain(time.monotonic() + 10)
    assert bytes(service.log) == log.read_bytes()


def test_shipping_continues_where_the_service_says(
    service: FakeService, log: Path, shipper: Shipper[bytes]
) -> None:
    log.write_bytes(b"0123456789")
    service.log += b"01234"  # what another process brought, whose position was lost
    wait_for(lambda: bytes(service.log) == b"0123456789")

    service.log.clear()  # and now it has forgotten everything
    with log.open("ab") as file:
        file.write(b"ab")

    wait_for(lambda: bytes(service.log) == b"0123456789ab")


def test_a_service_with_a_longer_log_is_not_polled_in_a_loop(
    service: FakeService, log: Path, shipper: Shipper[bytes]
) -> None:
    service.log += b"x" * 50
    log.write_bytes(b"0123456789")

    assert shipper.drain(time.monotonic() + 10)
    time.sleep(0.2)

    assert len(service.paths) <= 2


@pytest.mark.parametrize("response", [SUPERSEDED, Response(404), Response(405)])
def test_a_service_that_refuses_the_log_gets_no_more_requests(
    service: FakeService, log: Path, shipper: Shipper[bytes], response: Response
) -> None:
    service.script = [response]
    log.write_bytes(b"a line\n")

    wait_for(lambda: shipper.is_refused)
    with log.open("ab") as file:
        file.write(b"another\n")

    assert not shipper.drain(time.monotonic() + 5)
    assert len(service.paths) == 1


def test_an_idle_log_sends_no_request(
    service: FakeService, log: Path, shipper: Shipper[bytes]
) -> None:
    time.sleep(0.2)

    assert service.paths == []


def test_the_last_lines_are_delivered_when_the_reporter_closes(
    service: FakeService, tmp_path: Path
) -> None:
    log = tmp_path / "run" / attempt_log_path(1)
    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        log.parent.mkdir()
        reporter.report_outcome("succeeded")
        log.write_bytes(b"almost\n" * 1000 + b"done\n")

    assert bytes(service.log) == log.read_bytes()
    assert service.paths[-1].startswith("/v1/runs/r1/attempts/1/log")


def test_a_later_process_continues_at_the_saved_position(service: FakeService, log: Path) -> None:
    for line in (b"one\n", b"two\n"):
        with log.open("ab") as file:
            file.write(line)
        sink = LogSink(service.url, run_id="r1", attempt=2)
        shipper = build_log_shipper(sink, run_dir=log.parents[1], attempt=2, timing=FAST)
        shipper.start()
        assert shipper.drain(time.monotonic() + 10)
        shipper.stop()
        sink.close()

    assert bytes(service.log) == b"one\ntwo\n"
    assert [path.rpartition("=")[2] for path in service.paths] == ["0", "4"]
    assert threading.active_count() < 20


def test_of_a_long_backlog_the_beginning_and_the_end_are_sent(
    service: FakeService, log: Path
) -> None:
    limits = LogLimits(head_bytes=LOG_CHUNK_BYTES, tail_bytes=LOG_CHUNK_BYTES)
    log.write_bytes(b"a" * LOG_CHUNK_BYTES + b"b" * (20 * LOG_CHUNK_BYTES) + b"the end\n")
    sink = LogSink(service.url, run_id="r1", attempt=2)
    shipper = build_log_shipper(sink, run_dir=log.parents[1], attempt=2, timing=FAST, limits=limits)
    shipper.start()

    assert shipper.drain(time.monotonic() + 10)
    shipper.stop()
    sink.close()

    assert service.log.startswith(b"a" * LOG_CHUNK_BYTES)
    assert service.log.endswith(b"the end\n")
    assert len(service.paths) <= 4
    assert f"offset={20 * LOG_CHUNK_BYTES + 8}&after_gap=true" in service.paths[1]
