"""When the import of mlflow begins."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from configs.protocol.records import Record
from tests.support.http_servers import AnsweringServer, run_answering_server
from tests.support.waiting import wait_until
from tests.support.workers.records import make_metrics
from tests.support.workers.reporters import open_reporter
from workers.telemetry.deferred_mlflow_sink import DeferredMlflowSink
from workers.telemetry.protocol import Phase

FOREVER_S = 600.0


class RecordingSink:
    name = "MLflow"
    pause_s = 0.0

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        return first + len(records)


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code under test sets these variables."""
    proxies = ("NO_PROXY", "no_proxy")
    requests = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    output = ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT")
    for name in (*proxies, *requests, *output):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with run_answering_server() as answering:
        yield answering


def test_a_delivery_waits_until_the_work_begins() -> None:
    events: list[str] = []
    is_called = threading.Event()
    sink = make_sink(events, max_delay_s=FOREVER_S)

    def deliver() -> None:
        is_called.set()
        sink.deliver(0, [make_metrics(1)])

    thread = threading.Thread(target=deliver)
    thread.start()
    is_called.wait()
    events.append("begin")
    sink.begin()
    thread.join()

    assert events == ["begin", "build"]


def test_the_wait_is_limited_and_the_sink_is_built_once() -> None:
    events: list[str] = []
    sink = make_sink(events, max_delay_s=0.0)

    assert sink.deliver(0, [make_metrics(1)]) == 1
    assert sink.deliver(1, [make_metrics(2), make_metrics(3)]) == 3
    assert events == ["build"]


@pytest.mark.parametrize("begins_by", ["training", "drain"])
def test_mlflow_hears_of_a_run_that_trains_or_ends(
    tmp_path: Path, server: AnsweringServer, monkeypatch: pytest.MonkeyPatch, begins_by: str
) -> None:
    monkeypatch.setattr(DeferredMlflowSink, "max_delay_s", FOREVER_S)
    reporter = open_reporter(tmp_path / "run", mlflow_url=server.url)
    reporter.start()

    def report(phase: Phase) -> None:
        reporter.report_progress(phase=phase, epoch=1, epochs=2, step=1, steps=8, eta_s=None)

    report("preparing")
    assert server.requested == []
    if begins_by == "training":
        report("training")
    else:
        reporter.drain(timeout_s=0.0)

    wait_until(lambda: bool(server.requested), timeout_s=60, interval_s=0.05)
    reporter.close(timeout_s=0.0)


def make_sink(events: list[str], *, max_delay_s: float) -> DeferredMlflowSink:
    def build() -> RecordingSink:
        events.append("build")
        return RecordingSink()

    sink = DeferredMlflowSink("http://127.0.0.1:9", build)
    sink.max_delay_s = max_delay_s
    return sink
