"""Reporters for tests, with a clock that advances by itself."""

import time
from collections.abc import Callable
from pathlib import Path

from configs.protocol.names import RunFile
from tests.support.workers.records import Ticking, a_run_spec
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.reporter import SpoolReporter


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
    (run_dir / RunFile.SPEC).write_text(a_run_spec().model_dump_json())
    return SpoolReporter.open(run_dir, identity=identity, spec=a_run_spec(), clock=Ticking())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.005)
