"""The service as a sink of records, over a real socket."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.protocol.records import PendingRecords, Record
from tests.support.workers.fake_service import SUPERSEDED, FakeService, Response, serve
from tests.support.workers.records import make_metrics, make_outcome, make_started
from workers.telemetry.service_sink import ServiceSink
from workers.telemetry.shipper import SinkProtocolError, SinkRefused, SinkUnavailable


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serve(FakeService()) as running:
        yield running


@pytest.fixture
def sink(service: FakeService) -> Iterator[ServiceSink]:
    running = ServiceSink(service.url, run_id="r1", attempt=3)
    yield running
    running.close()


def test_records_are_delivered_unchanged(service: FakeService, sink: ServiceSink) -> None:
    records: list[Record] = [make_started(), make_metrics(1), make_outcome()]

    assert sink.deliver(0, records) == 3

    assert service.records == records
    assert service.paths == ["/v1/runs/r1/attempts/3/deliveries"]


def test_an_empty_delivery_is_a_heartbeat(service: FakeService, sink: ServiceSink) -> None:
    sink.deliver(0, [make_metrics(1)])

    assert sink.deliver(1, []) == 1

    assert service.heartbeats == 1


def test_every_delivery_reports_the_pending_records_of_its_time(service: FakeService) -> None:
    pending: PendingRecords = {"service": 3, "mlflow": 7}
    sink = ServiceSink(service.url, run_id="r1", attempt=3, pending_records=lambda: pending)
    sink.deliver(0, [make_metrics(1)])
    pending = {"service": 0, "mlflow": 8}
    sink.deliver(1, [])
    sink.close()

    assert service.heartbeats == 1
    assert service.reported_pending == [{"service": 3, "mlflow": 7}, {"service": 0, "mlflow": 8}]


def test_a_stop_on_a_receipt_is_remembered(service: FakeService, sink: ServiceSink) -> None:
    service.stop = "pause"
    sink.deliver(0, [])
    service.stop = None
    sink.deliver(0, [])

    assert sink.requested_stop == "pause"


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_temporary_error_is_to_be_retried(
    service: FakeService, sink: ServiceSink, status: int
) -> None:
    service.script = [Response(status, "<html>busy</html>")]

    with pytest.raises(SinkUnavailable, match=str(status)) as raised:
        sink.deliver(0, [make_metrics(1)])

    assert not isinstance(raised.value, SinkProtocolError)
    assert sink.deliver(0, [make_metrics(1)]) == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404, 413, 422])
def test_an_unexpected_answer_names_the_url_and_the_reason(
    service: FakeService, sink: ServiceSink, status: int
) -> None:
    service.script = [Response(status, json.dumps({"code": "x", "detail": "There is no run r1."}))]

    with pytest.raises(SinkProtocolError, match=rf"/v1/runs/r1/.* {status}: There is no run r1"):
        sink.deliver(0, [make_metrics(1)])


def test_a_newer_attempt_is_a_refusal(service: FakeService, sink: ServiceSink) -> None:
    service.script = [SUPERSEDED]

    with pytest.raises(SinkRefused, match="Attempt 2 reports"):
        sink.deliver(0, [make_metrics(1)])


def test_any_other_conflict_is_no_refusal(service: FakeService, sink: ServiceSink) -> None:
    service.script = [
        Response(409, json.dumps({"code": "invalid_transition"})),
        Response(409, "nginx"),
    ]

    for _ in range(2):
        with pytest.raises(SinkProtocolError):
            sink.deliver(0, [make_metrics(1)])


def test_an_answer_that_is_no_receipt_is_a_protocol_error(
    service: FakeService, sink: ServiceSink
) -> None:
    service.script = [Response(200, "<html>hello</html>")]

    with pytest.raises(SinkProtocolError, match="no receipt"):
        sink.deliver(0, [make_metrics(1)])


def test_a_runs_token_is_sent_and_read_again_when_it_is_refused(
    service: FakeService, tmp_path: Path
) -> None:
    service.token, file = "first", tmp_path / "report.token"
    file.write_text("first\n")
    sink = ServiceSink(service.url, run_id="r1", attempt=1, token_file=file)
    assert sink.deliver(0, [make_metrics(1)]) == 1

    service.token = "second"
    file.write_text("second\n")
    with pytest.raises(SinkProtocolError):
        sink.deliver(1, [])

    assert sink.deliver(1, []) == 1
    sink.close()


@pytest.mark.parametrize("content", [None, "", "wrong"])
def test_a_bad_token_is_named_by_its_file_and_not_printed(
    service: FakeService, tmp_path: Path, content: str | None
) -> None:
    service.token, file = "right", tmp_path / "report.token"
    if content is not None:
        file.write_text(content)
    sink = ServiceSink(service.url, run_id="r1", attempt=1, token_file=file)

    with pytest.raises(SinkProtocolError, match=r"401: Who are you\?.*report\.token") as raised:
        sink.deliver(0, [make_metrics(1)])

    assert "wrong" not in str(raised.value)
    sink.close()


def test_a_closed_port_is_an_unavailable_sink(free_port_url: str) -> None:
    sink = ServiceSink(free_port_url, run_id="r1", attempt=1)

    with pytest.raises(SinkUnavailable, match="ConnectError"):
        sink.deliver(0, [])
    sink.close()


@pytest.fixture
def free_port_url() -> str:
    with serve(FakeService()) as service:
        return service.url
