"""The reporter with the calls of a trainer."""

import json
import logging
import math
import random
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.protocol.records import Metrics, Outcome, Record
from tests.support.workers.fake_service import SUPERSEDED, FakeService, Response, serve
from tests.support.workers.file_limits import limit_file_size
from tests.support.workers.records import append_torn_line
from tests.support.workers.reporters import open_reporter, wait_for
from workers.telemetry.reporter import NotARunFolder, SpoolReporter, flush_run
from workers.telemetry.shipper import BATCH_SIZE
from workers.telemetry.spool import Spool


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serve(FakeService()) as running:
        yield running


def test_without_addresses_records_stay_in_the_spool(tmp_path: Path) -> None:
    with open_reporter(tmp_path / "run") as reporter:
        reporter.report_metrics(step=1, values={"loss": 1.0})
        reporter.report_outcome("succeeded")

    assert [record.kind for record in read_spooled(tmp_path / "run")] == ["metrics", "outcome"]
    assert reporter.pending == {}
    assert reporter.requested_stop is None
    assert not reporter.is_superseded


def test_metrics_are_logged_with_epoch_step_and_time_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), open_reporter(tmp_path / "run") as reporter:
        reporter.report_progress(phase="training", epoch=2, epochs=6, step=29, steps=90, eta_s=75.0)
        for _ in range(2):  # a resumed attempt repeats steps
            reporter.report_metrics(step=30, values={"train/loss": 1.5})

    assert [record.message for record in caplog.records] == [
        "Epoch 2 of 6, step 30 of 90, 1 min 15 s left: loss 1.5"
    ]


def test_all_records_are_delivered_before_the_reporter_closes(
    tmp_path: Path, service: FakeService
) -> None:
    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        report_run(reporter)

    assert service.records == read_spooled(tmp_path / "run")
    assert reporter.pending == {"the service": 0}


def test_an_outage_delays_records_and_loses_none(tmp_path: Path, service: FakeService) -> None:
    service.script = [Response(503), Response(503)]

    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        report_run(reporter)

    assert service.records == read_spooled(tmp_path / "run")


def test_heartbeats_report_records_that_mlflow_did_not_accept(
    tmp_path: Path, service: FakeService
) -> None:
    with serve(FakeService()) as stopped_service:
        mlflow_url = stopped_service.url
    reporter = open_reporter(tmp_path / "run", service_url=service.url, mlflow_url=mlflow_url)
    reporter.start()
    for step in range(30):
        reporter.report_metrics(step=step, values={"loss": 1.0})
    wait_for(lambda: len(service.records) == 30)
    before = service.heartbeats

    wait_for(lambda: service.heartbeats > before)

    assert service.reported_pending[-1] == {"service": 0, "mlflow": 30}
    assert reporter.pending == {"the service": 0, "MLflow": 30}
    reporter.close(timeout_s=0)


def test_no_pending_records_are_reported_for_a_missing_sink(
    tmp_path: Path, service: FakeService
) -> None:
    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        report_run(reporter)

    assert {destination for pending in service.reported_pending for destination in pending} == {
        "service"
    }


def test_the_first_delivery_after_an_outage_reports_all_pending_records(
    tmp_path: Path, service: FakeService
) -> None:
    reporter = open_reporter(tmp_path / "run", service_url=service.url)
    for step in range(BATCH_SIZE + 20):
        reporter.report_metrics(step=step, values={"loss": 1.0})
    service.script = [Response(503)]

    reporter.start()
    assert reporter.close(timeout_s=20)

    assert [pending["service"] for pending in service.reported_pending[:2]] == [BATCH_SIZE + 20, 20]


def test_a_resumed_run_reports_only_new_steps(tmp_path: Path, service: FakeService) -> None:
    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        reporter.report_metrics(step=10, values={"loss": 1.0})
        reporter.report_metrics(step=20, values={"loss": 0.5})
    append_torn_line(tmp_path / "run" / RunFile.SPOOL)

    with open_reporter(tmp_path / "run", service_url=service.url, attempt=2) as reporter:
        for step, loss in ((10, 1.0), (20, 0.5), (30, 0.25)):
            reporter.report_metrics(step=step, values={"loss": loss})

    points = [record for record in service.records if isinstance(record, Metrics)]
    assert [(point.step, point.attempt) for point in points] == [(10, 1), (20, 1), (30, 2)]


def test_a_stop_request_of_the_service_reaches_the_trainer(
    tmp_path: Path, service: FakeService
) -> None:
    service.stop = "cancel"

    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        reporter.report_progress(phase="training", epoch=1, epochs=2, step=1, steps=10, eta_s=None)
        wait_for(lambda: reporter.requested_stop == "cancel")

    assert not reporter.is_superseded


def test_a_newer_attempt_is_noticed_on_the_disk(tmp_path: Path) -> None:
    older = open_reporter(tmp_path / "run", attempt=1)
    assert not older.check_superseded()

    newer = open_reporter(tmp_path / "run", attempt=2)

    assert older.check_superseded()
    assert older.is_superseded
    assert not newer.check_superseded()
    for reporter in (older, newer):
        reporter.close(timeout_s=0.0)


def test_an_attempt_that_starts_late_does_not_supersede_a_newer_one(tmp_path: Path) -> None:
    newer = open_reporter(tmp_path / "run", attempt=2)

    older = open_reporter(tmp_path / "run", attempt=1)

    assert older.check_superseded()
    assert not newer.check_superseded()
    for reporter in (older, newer):
        reporter.close(timeout_s=0.0)


def test_a_newer_attempt_reaches_the_trainer_and_nothing_waits_for_it(
    tmp_path: Path, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.script = [SUPERSEDED]
    started_s = time.monotonic()

    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        reporter.report_metrics(step=1, values={"loss": 1.0})
        wait_for(lambda: reporter.is_superseded)
        reporter.report_metrics(step=2, values={"loss": 1.0})

    assert time.monotonic() - started_s < 20
    assert service.records == []
    assert "Undelivered records" not in caplog.text


def test_pending_records_are_logged_with_the_command_that_delivers_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = tmp_path / "my run"
    with serve(FakeService()) as service:
        url = service.url
    reporter = open_reporter(run_dir, service_url=url)
    reporter.start()
    report_run(reporter)

    assert not reporter.close(timeout_s=0.2)

    assert reporter.pending == {"the service": 4}
    assert f"4 for the service. Deliver them with: tandem-worker flush --run-dir '{run_dir}'" in (
        caplog.text
    )


def test_pending_records_are_flushed_later_and_only_once(
    tmp_path: Path, service: FakeService
) -> None:
    reporter = open_reporter(tmp_path / "run", service_url=service.url)
    report_run(reporter)  # and the process is killed: nothing was ever shipped
    append_torn_line(tmp_path / "run" / RunFile.SPOOL)

    assert flush_run(tmp_path / "run", timeout_s=20)
    assert flush_run(tmp_path / "run", timeout_s=20)

    assert service.records == read_spooled(tmp_path / "run")
    assert [record.kind for record in service.records] == [
        "metrics",
        "metrics",
        "artifact",
        "outcome",
    ]


def test_flushing_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotARunFolder, match=r"reporting\.json"):
        flush_run(tmp_path)


def test_the_identity_is_on_disk_for_a_later_flush(tmp_path: Path) -> None:
    open_reporter(tmp_path / "run", service_url="http://127.0.0.1:1", attempt=3)

    identity = json.loads((tmp_path / "run" / "reporting.json").read_text())

    assert identity["run_id"] == "r1"
    assert identity["attempt"] == 3
    assert identity["service_url"] == "http://127.0.0.1:1"


def test_a_value_that_is_not_finite_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_reporter(tmp_path / "run") as reporter:
        reporter.report_metrics(step=1, values={"loss": 1.0, "speed": math.inf, "mAP": math.nan})
        reporter.report_metrics(step=2, values={"loss": math.nan})

    (point,) = read_spooled(tmp_path / "run")
    assert isinstance(point, Metrics)
    assert point.values == {"loss": 1.0}
    assert "Not finite at step 1, and not reported: mAP, speed." in caplog.text


def test_a_service_that_hangs_does_not_hold_up_the_trainer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        reporter = open_reporter(tmp_path / "run", service_url=url)
        reporter.start()
        reporter.report_metrics(step=0, values={"loss": 1.0})
        started_s = time.monotonic()

        for step in range(1, 200):
            reporter.report_metrics(step=step, values={"loss": 1.0})

        assert time.monotonic() - started_s < 2
    assert not reporter.close(timeout_s=0)
    assert len(read_spooled(tmp_path / "run")) == 200


def test_a_full_disk_does_not_hide_why_a_run_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = open_reporter(tmp_path / "run")
    for step in range(1000):
        reporter.report_metrics(step=step, values={"loss": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = (tmp_path / "run" / RunFile.SPOOL).stat().st_size

    resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
    try:
        reporter.report_outcome("failed", reason=FailureReason.DISK_FULL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "The outcome (failed) could not be written" in caplog.text
    reporter.close(timeout_s=0)


def test_an_outcome_without_disk_space_is_sent_to_the_service_and_positions_agree(
    tmp_path: Path, service: FakeService
) -> None:
    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        for step in range(20):
            reporter.report_metrics(step=step, values={"loss": 1.0})
        with limit_file_size((tmp_path / "run" / RunFile.SPOOL).stat().st_size):
            reporter.report_outcome("failed", reason=FailureReason.DISK_FULL)
            reporter.drain(timeout_s=5)
    outcome = service.records[-1]
    assert isinstance(outcome, Outcome)
    assert outcome.reason is FailureReason.DISK_FULL

    with open_reporter(tmp_path / "run", service_url=service.url, attempt=2) as reporter:
        reporter.report_metrics(step=20, values={"loss": 0.5})

    assert [record.kind for record in service.records[-2:]] == ["outcome", "metrics"]
    assert len(read_spooled(tmp_path / "run")) == len(service.records)


def test_an_outcome_is_not_sent_before_earlier_records(tmp_path: Path) -> None:
    with serve(FakeService()) as service:
        url = service.url
    reporter = open_reporter(tmp_path / "run", service_url=url)
    reporter.report_metrics(step=1, values={"loss": 1.0})

    with limit_file_size((tmp_path / "run" / RunFile.SPOOL).stat().st_size):
        reporter.report_outcome("failed", reason=FailureReason.DISK_FULL)

    assert not (tmp_path / "run" / "spool.service.position").exists()


def test_a_long_message_is_truncated(tmp_path: Path, service: FakeService) -> None:
    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        reporter.report_outcome("failed", reason=FailureReason.BUG, message="x" * 1_000_000)

    (outcome,) = service.records
    assert isinstance(outcome, Outcome)
    assert 1000 < len(outcome.message) < 10_000


def test_reporting_does_not_touch_the_random_state(tmp_path: Path, service: FakeService) -> None:
    service.script = [Response(503)]
    before = random.getstate()

    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        report_run(reporter)

    assert random.getstate() == before


def test_a_quiet_run_warns_of_nothing(
    tmp_path: Path, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    with open_reporter(tmp_path / "run", service_url=service.url) as reporter:
        report_run(reporter)

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def report_run(reporter: SpoolReporter) -> None:
    reporter.report_metrics(step=1, values={"loss": 1.0})
    reporter.report_metrics(step=2, values={"loss": 0.5})
    reporter.report_artifact("config.py")
    reporter.report_outcome("succeeded", best_map=0.4, best_epoch=2)


def read_spooled(run_dir: Path) -> list[Record]:
    spool = Spool(run_dir / RunFile.SPOOL)
    records = spool.read(0, limit=10_000)
    spool.close()
    return records
