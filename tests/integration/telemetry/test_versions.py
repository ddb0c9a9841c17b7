"""Service and workers of different versions understand each other's messages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.protocol.names import RunFile
from configs.protocol.records import Delivery, Receipt
from tests.support.service.runs import start_running_run
from tests.support.service.stage import Stage
from tests.support.workers.fake_service import FakeService, Response, serve
from tests.support.workers.records import make_metrics
from workers.telemetry.log_sink import LogSink
from workers.telemetry.service_sink import ServiceSink
from workers.telemetry.spool import Spool

ADDITIONAL: dict[str, Any] = {"added_later": {"of": ["a", "newer", "version"]}}


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serve(FakeService()) as running:
        yield running


class TestOlderWorker:
    """Its service is newer, and adds fields to its answers."""

    def test_it_hears_a_request_to_stop(self, service: FakeService) -> None:
        service.script = [Response(200, json.dumps({"next": 1, "stop": "cancel", **ADDITIONAL}))]
        sink = ServiceSink(service.url, run_id="r1", attempt=1)

        position = sink.deliver(0, [make_metrics(1)])
        sink.close()

        assert (position, sink.requested_stop) == (1, "cancel")

    def test_its_log_is_accepted(self, service: FakeService) -> None:
        service.script = [Response(200, json.dumps({"next": 4, **ADDITIONAL}))]
        sink = LogSink(service.url, run_id="r1", attempt=1)

        assert sink.deliver(0, b"line") == 4
        sink.close()

    def test_it_resumes_from_a_spool_of_a_newer_one(self, tmp_path: Path) -> None:
        record = make_metrics(1)
        document = record.model_dump(mode="json") | ADDITIONAL
        (tmp_path / RunFile.SPOOL).write_text(json.dumps(document) + "\n", encoding="utf-8")

        spool = Spool(tmp_path / RunFile.SPOOL)

        assert spool.read(0, limit=10) == [record]
        spool.close()


class TestOlderService:
    """Its workers are newer, and add fields to their deliveries."""

    def test_it_stores_what_it_knows(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        record = make_metrics(1)
        document = {
            "first": 0,
            "records": [record.model_dump(mode="json") | ADDITIONAL],
            "pending_records": {"service": 1},
            **ADDITIONAL,
        }

        response = stage.http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=document)

        assert response.status_code == 200, response.text
        assert response.json() == {"next": 1, "stop": None, "next_due_s": 2.0}
        points = stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"]
        assert json.dumps(next(iter(record.values.values()))) in json.dumps(points)

    def test_it_imports_what_it_knows_from_a_spool(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        record = make_metrics(1)
        document = record.model_dump(mode="json") | ADDITIONAL
        spool = stage.ctx.files.run_dir(run_id) / RunFile.SPOOL
        spool.write_text(json.dumps(document) + "\n", encoding="utf-8")

        assert stage.ctx.files.spool_records(run_id, 0) == [record]

    def test_a_wrong_value_is_still_refused_and_named(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        document = {"first": -1, "records": [], **ADDITIONAL}

        response = stage.http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=document)

        assert response.status_code == 422
        assert "first" in response.text
        assert "added_later" not in response.text

    def test_the_attempts_of_a_node_are_read(self, stage: Stage) -> None:
        body = {"attempts": ["r0-a1"], **ADDITIONAL}

        assert stage.http.post("/v1/attempts:over", json=body).json() == {"finished": []}


@pytest.mark.parametrize(
    ("model", "document"),
    [(Receipt, {"next": 0}), (Delivery, {"first": 0, "records": ()})],
    ids=["receipt", "delivery"],
)
def test_writers_are_strict(
    model: type[Receipt] | type[Delivery], document: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match="added_later"):
        model(**document, **ADDITIONAL)
