"""Reporters for tests, with a clock that advances by itself."""

from functools import partial
from pathlib import Path

from configs.protocol.names import RunFile
from tests.support.waiting import wait_until
from tests.support.workers.records import TickingClock, make_run_spec
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.reporter import SpoolReporter

wait_for = partial(wait_until, timeout_s=20, interval_s=0.005)


def open_reporter(
    run_dir: Path,
    *,
    service_url: str | None = None,
    mlflow_url: str | None = None,
    attempt: int = 1,
) -> SpoolReporter:
    identity = AttemptIdentity(
        run_id="r1", attempt=attempt, service_url=service_url, mlflow_url=mlflow_url
    )
    run_dir.mkdir(exist_ok=True)
    (run_dir / RunFile.SPEC).write_text(make_run_spec().model_dump_json())
    return SpoolReporter.open(
        run_dir, identity=identity, spec=make_run_spec(), clock=TickingClock()
    )
