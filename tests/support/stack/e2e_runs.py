"""Waiting for runs on a real stack, and finding their trainers and recorded steps."""

from functools import partial

import psutil

from configs.metric_keys import Metric
from service.api.schemas.runs import RunView
from service.client import TandemClient
from tests.support.stack.mlflow_runs import read_mlflow_steps
from tests.support.stack.quick_preset import list_logged_steps
from tests.support.stack.shell import Shell
from tests.support.waiting import wait_until

TIMEOUT_S = 240

wait_for = partial(wait_until, timeout_s=TIMEOUT_S, interval_s=0.2)


def assert_steps_are_complete(
    shell: Shell, client: TandemClient, run: RunView, *, epochs: int
) -> None:
    expected = list_logged_steps(epochs)
    actual = [point.step for point in client.metrics(run.id, key=Metric.LOSS)]
    assert actual == expected
    assert read_mlflow_steps(shell.mlflow_url, run.id, Metric.LOSS) == expected


def find_trainer(run_id: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if run_id in arguments and any(word.endswith("tandem-worker") for word in arguments[:3]):
            return process
    raise psutil.NoSuchProcess(0, msg=f"no trainer of {run_id}")
