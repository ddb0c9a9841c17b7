"""Runs on a real stack: waiting for them, their trainer, and their recorded steps."""

import time
from collections.abc import Callable

import psutil

from configs.protocol.names import Metric
from service.api.schemas.runs import RunView
from service.client import TandemClient
from tests.support.stack.mlflow_runs import tracked_steps
from tests.support.stack.quick_preset import said_steps
from tests.support.stack.shell import Shell

PATIENCE_S = 240


def assert_every_step_is_there_once(
    shell: Shell, client: TandemClient, run: RunView, *, epochs: int
) -> None:
    wanted = said_steps(epochs)
    ours = [point.step for point in client.metrics(run.id, key=Metric.LOSS)]
    assert ours == wanted
    assert tracked_steps(shell.mlflow_url, run.id, Metric.LOSS) == wanted


def trainer_of(run_id: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if run_id in words and any(word.endswith("tandem-worker") for word in words[:3]):
            return process
    raise psutil.NoSuchProcess(0, msg=f"no trainer of {run_id}")


def has_epoch(run: RunView, epoch: int) -> bool:
    return run.progress is not None and run.progress.epoch >= epoch


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.2)
