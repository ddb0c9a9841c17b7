"""Runs in a `Stage`, and the records that their workers would deliver."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpx

from configs.protocol.names import RunFile
from configs.protocol.records import (
    Delivery,
    Metrics,
    Outcome,
    Progress,
    Record,
    Started,
)
from service.main import make_loops
from tests.support.factories import NO_HASH, make_spec
from tests.support.service.stage import Stage


def write_spool(stage: Stage, run_id: str, records: list[Record]) -> None:
    spool = stage.home / "runs" / run_id / RunFile.SPOOL
    spool.write_text("".join(record.model_dump_json() + "\n" for record in records))


def submit_run(stage: Stage, spec: dict[str, Any] | None = None, **changes: Any) -> str:
    stage.add_dataset()
    run_id: str = stage.launch(spec=spec or make_spec(**changes))["id"]
    stage.run_loops()
    return run_id


def start_running_run(stage: Stage, spec: dict[str, Any] | None = None, **changes: Any) -> str:
    run_id = submit_run(stage, spec, **changes)
    deliver(stage, run_id, [])
    stage.cluster.set_job_state(f"{run_id}-a1", "running")
    return run_id


def list_run_ids(stage: Stage) -> list[str]:
    return [run["id"] for run in stage.http.get("/v1/runs").json()["items"]]


def run_loop_step(stage: Stage, name: str) -> None:
    """Run one step of a loop, which tolerates an unreachable cluster or tracker."""
    loop = next(loop for loop in make_loops(stage.ctx, interval_s=1.0) if loop.name == name)
    loop._run_step()


def deliver(
    stage: Stage, run_id: str, records: Sequence[Record], *, first: int = 0
) -> dict[str, Any]:
    attempt = stage.run(run_id)["attempt"]
    url = f"/v1/runs/{run_id}/attempts/{attempt}/deliveries"
    response = stage.http.post(url, json=make_delivery(records, first=first))
    assert response.status_code == 200, response.text
    return dict(response.json())


def make_delivery(records: Sequence[Record], *, first: int = 0) -> dict[str, Any]:
    return Delivery(first=first, records=tuple(records)).model_dump(mode="json")


def deliver_raw(
    stage: Stage, run_id: str, records: Sequence[Record], *, first: int = 0
) -> httpx.Response:
    """Deliver records of the first attempt without checking the response."""
    url = f"/v1/runs/{run_id}/attempts/1/deliveries"
    return stage.http.post(url, json=make_delivery(records, first=first))


def make_started(stage: Stage, *, host: str = "h") -> Started:
    return Started(
        at=stage.clock.now(),
        attempt=1,
        host=host,
        pid=1,
        device="cpu",
        resumed_from_epoch=0,
        teacher_sha256=None,
        dataset_name="pets",
        dataset_digest=NO_HASH,
        versions={},
    )


def make_progress(stage: Stage) -> Progress:
    return Progress(
        at=stage.clock.now(),
        attempt=1,
        phase="training",
        epoch=1,
        epochs=2,
        step=1,
        steps=4,
        eta_s=3.0,
    )


def make_metrics(
    stage: Stage, step: int, *, loss: float | None = None, mAP: float | None = None
) -> Metrics:
    values = {"train/loss": loss, "val/bbox_mAP": mAP}
    return Metrics(
        at=stage.clock.now() + timedelta(seconds=step),
        attempt=1,
        step=step,
        values={key: value for key, value in values.items() if value is not None},
    )


def make_outcome(stage: Stage, result: Any) -> Outcome:
    return Outcome(at=stage.clock.now(), attempt=1, result=result)
