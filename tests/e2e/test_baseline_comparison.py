"""A distilled run and its baseline on the real stack, from one request to a verdict in MLflow."""

import time

import pytest

from configs.metric_keys import gain_metric
from configs.protocol.names import Tag
from configs.protocol.report import Report
from service.api.schemas.runs import RunRequest
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.mlflow_runs import find_mlflow_run
from tests.support.stack.shell import Shell

pytestmark = pytest.mark.e2e

TIMEOUT_S = 300


@pytest.mark.slow  # test_sweep.py has reports and comparisons on the real stack
def test_one_request_ends_with_a_verdict(shell: Shell, client: TandemClient) -> None:
    teacher = client.launch(RunRequest(preset="quick/instant", changes={"seed": 7}))
    changes = {"teacher": {"run": teacher.id}}
    distilled = client.launch(RunRequest(preset="quick/instant_bckd", changes=changes))
    assert distilled.baseline_run_id is not None
    finished = [
        client.wait(run, timeout_s=TIMEOUT_S) for run in (distilled.baseline_run_id, distilled.id)
    ]
    assert [run.state for run in finished] == [RunState.SUCCEEDED] * 2, [
        run.message for run in finished
    ]

    until_s = time.monotonic() + TIMEOUT_S
    while (compared := client.run(distilled.id)).comparison is None:
        report = None if compared.report_run_id is None else client.run(compared.report_run_id)
        assert report is None or report.state is not RunState.FAILED, report.message
        kinds = {event.kind for event in client.events(distilled.id)}
        assert "no_verdict" not in kinds, client.report(distilled.id)
        assert time.monotonic() < until_s, report
        time.sleep(0.5)

    baseline_map, distilled_map = (run.best_map for run in finished)
    assert baseline_map is not None
    assert distilled_map is not None
    assert compared.comparison.difference == pytest.approx(distilled_map - baseline_map, abs=1e-6)
    document = Report.model_validate_json(client.report(distilled.id, format="json"))
    assert document.comparisons[0].baselines == (distilled.baseline_run_id,)
    assert "<html" in client.report(distilled.id, format="html")
    while (
        Tag.VERDICT
        not in (mlflow_data := find_mlflow_run(shell.mlflow_url, distilled.id).data).tags
    ):
        assert time.monotonic() < until_s
        time.sleep(0.5)
    assert mlflow_data.tags[Tag.VERDICT] == compared.comparison.verdict
    assert mlflow_data.tags[Tag.BASELINE_RUN_ID] == distilled.baseline_run_id
    assert mlflow_data.metrics[gain_metric("bbox_mAP")] == pytest.approx(
        compared.comparison.difference
    )
    repeated = client.launch(RunRequest(preset="quick/instant_bckd", changes=changes))
    client.cancel(repeated.id)
    assert repeated.baseline_run_id == distilled.baseline_run_id
