"""A real Prometheus answers the queries of dashboards and alerts while a run trains."""

import os
from functools import partial
from pathlib import Path

import pytest

from configs.metric_keys import Metric
from service.api.schemas.runs import RunRequest
from service.client import TandemClient
from service.stack.components import ComponentName, ray_temp_dir
from tests.support.stack.prometheus import (
    AFTER_AN_EVENT,
    MAY_BE_MISSING,
    Targets,
    find_faults,
    find_prometheus,
    list_documented_metrics,
    run_prometheus,
    run_queries,
    wait_for_two_scrapes,
    write_config,
)
from tests.support.stack.shell import Shell
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,  # scrapes twice; house/test_dashboards and test_alerts hold the queries
    pytest.mark.e2e,
    pytest.mark.skipif(
        find_prometheus() is None,
        reason="Prometheus is not installed: apt-get install prometheus",
    ),
]

TIMEOUT_S = 240

PANELS_WITH_DATA = {
    "fleet, Checks of the service",
    "fleet, Scraped by Prometheus",
    "fleet, Active runs",
    "fleet, Unfinished runs",
    "fleet, Queued runs",
    "fleet, Longest wait",
    "fleet, CPU use",
    "fleet, Memory",
    "fleet, Disk of Ray",
    "fleet, Disk of the runs",
    "fleet, CPU core hours by project",
    "fleet, Response time",
    "fleet, Response time of MLflow",
    "fleet, Loop lag",
    "fleet, Deliveries of workers",
    "fleet, Spool backlog",
    "run, $run",
    "run, Progress",
    "run, Student's mAP",
    "run, Loss by term",
    "run, Images per second",
    "run, Heartbeat age",
    "run, Attempt",
    "run, Pending records",
    "sweep, $sweep",
    "sweep, Trials by state",
}
"""Panels with data while a run trains, another one waits, and a sweep has started."""

wait_for = partial(wait_until, timeout_s=TIMEOUT_S, interval_s=0.2)


def test_prometheus_can_answer_every_panel_and_every_rule(
    shell: Shell, client: TandemClient, tmp_path: Path
) -> None:
    runs, sweep = launch_runs_and_sweep(shell, client)
    variables = {"run": runs[0], "sweep": sweep}

    with run_prometheus(write_config(get_targets(shell), tmp_path), tmp_path) as url:
        wait_for_two_scrapes(url)

        assert find_faults(url, variables=variables, may_be_missing=MAY_BE_MISSING) == []
        assert list_documented_metrics(url) >= AFTER_AN_EVENT
        assert (
            find_faults(url, variables=variables | {"run": '"'}, may_be_missing=MAY_BE_MISSING)
            != []
        )
        results = run_queries(url, variables)

    client.stop_sweep(sweep)
    for run in runs:
        client.cancel(run)
        client.wait(run, timeout_s=TIMEOUT_S)
    assert {result.query.location for result in results if result.series} >= PANELS_WITH_DATA


def launch_runs_and_sweep(shell: Shell, client: TandemClient) -> tuple[list[str], str]:
    """Launch a run that trains, one that waits, and a sweep."""
    trains = client.launch(RunRequest(preset="quick/instant", changes={"schedule.epochs": 500}))
    wait_for(lambda: Metric.MAP in client.run(trains.id).latest)
    every_core = {"resources.num_cpus": os.cpu_count()}
    waits = client.launch(RunRequest(preset="quick/instant", changes=every_core))
    learning_rate = "schedule.optimizer.lr=loguniform:1e-4,1e-2"
    shell.run("sweep", "quick/instant", learning_rate, "--trials", "1")
    return [trains.id, waits.id], client.sweeps().items[0].id


def get_targets(shell: Shell) -> Targets:
    return Targets(
        service=f"127.0.0.1:{shell.ports[ComponentName.SERVICE]}",
        mlflow=f"127.0.0.1:{shell.ports[ComponentName.MLFLOW]}",
        ray_nodes=ray_temp_dir(shell.home) / "prom_metrics_service_discovery.json",
    )
