"""A packed sweep on the real stack: one command, trials in MLflow, a report, a promoted trial."""

import json
import re

import pytest
from mlflow import MlflowClient

from configs.metric_keys import Metric
from service.api.schemas.runs import RunView
from service.api.schemas.sweeps import PromoteRequest
from service.client import TandemClient
from tests.support.stack.shell import Shell

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1600)]

TRIALS = 2
WEIGHTS = ("distillation.cls_weight=loguniform:0.25,4", "distillation.loc_weight=loguniform:1,16")


def test_a_sweep_is_searched_in_packs_compared_and_its_best_is_the_same_alone(
    shell: Shell, client: TandemClient, trained_run: RunView
) -> None:
    teacher = f"teacher={{run: {trained_run.id}}}"
    options = ("--trials", str(TRIALS), "--algorithm", "random", "--pack", "3", "--noise-runs", "1")

    output = shell.run(
        *("sweep", "quick/instant_bckd", *WEIGHTS, teacher, *options, "--watch"), timeout_s=480
    )

    (sweep_id,) = set(re.findall(r"/v1/sweeps/(\w+)/report", output))
    sweep = client.sweep(sweep_id)
    trials = client.trials(sweep.id)
    assert sweep.state == "succeeded", sweep.message
    assert sweep.best is not None
    assert [trial.state for trial in trials] == ["finished"] * TRIALS
    runs = [client.run(trial.runs[0].id) for trial in trials]
    assert any(event.kind == "pack_joined" for event in client.events(runs[0].id))
    assert all(run.baseline_run_id == runs[0].baseline_run_id and run.comparison for run in runs)
    mlflow = MlflowClient(shell.mlflow_url)
    assert sweep.mlflow_run_id is not None
    for run in runs:
        assert run.mlflow_run_id is not None
        tags = mlflow.get_run(run.mlflow_run_id).data.tags
        assert tags["mlflow.parentRunId"] == sweep.mlflow_run_id
    page = client.report(sweep.id, format="html")
    assert "<svg" in page
    assert json.loads(client.report(sweep.id, format="json"))["comparisons"]

    launched = client.promote(sweep.id, PromoteRequest())

    promoted = client.wait(launched.id, timeout_s=240)
    best = client.run(trials[sweep.best.trial].runs[0].id)
    promoted_losses, trial_losses = (
        [point.value for point in client.metrics(run.id, key=Metric.LOSS)]
        for run in (promoted, best)
    )
    assert promoted_losses == trial_losses
    assert promoted.best_map == best.best_map


@pytest.mark.slow  # what it adds to the test above is its own preset and the page
def test_the_demo_searches_and_writes_its_page(shell: Shell, client: TandemClient) -> None:
    page = shell.home / "page.html"

    shell.run("sweep-demo", "--trials", "2", "--page", str(page), timeout_s=1500)

    assert client.sweeps().items[0].state == "succeeded"
    assert "<svg" in page.read_text()
