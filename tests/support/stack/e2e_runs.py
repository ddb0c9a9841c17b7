"""Runs on a real stack: waiting for them, their trainer, and their recorded steps."""

from functools import partial

import psutil

from configs.metric_keys import Metric
from service.api.schemas.runs import RunView
from service.client import TandemClient
from tests.support.stack.mlflow_runs import tracked_steps
from tests.support.stack.quick_preset import said_steps
from tests.support.stack.shell import Shell
from tests.support.waiting import wait_until

PATIENCE_S = 240

wait_for = partial(wait_until, timeout_s=PATIENCE_S, interval_s=0.2)


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
