"""A taught run with its twin on the real stack: from one request to a verdict in MLflow."""

import time

import pytest

from configs.metric_keys import gain_metric
from configs.protocol.names import Tag
from configs.protocol.report import Report
from service.api.schemas.runs import RunRequest
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.mlflow_runs import tracked_run
from tests.support.stack.shell import Shell

pytestmark = pytest.mark.e2e

PATIENCE_S = 300


@pytest.mark.slow  # test_sweep.py has reports and comparisons on the real stack
def test_one_request_ends_with_a_verdict(shell: Shell, client: TandemClient) -> None:
    teacher = client.launch(RunRequest(preset="quick/instant", changes={"seed": 7}))
    changes = {"teacher": {"run": teacher.id}}
    taught = client.launch(RunRequest(preset="quick/instant_bckd", changes=changes))
    assert taught.baseline_run_id is not None
    ended = [client.wait(one, timeout_s=PATIENCE_S) for one in (taught.baseline_run_id, taught.id)]
    assert [one.state for one in ended] == [RunState.SUCCEEDED] * 2, [one.message for one in ended]

    until_s = time.monotonic() + PATIENCE_S
    while (found := client.run(taught.id)).comparison is None:
        report = None if found.report_run_id is None else client.run(found.report_run_id)
        assert report is None or report.state is not RunState.FAILED, report.message
        kinds = {event.kind for event in client.events(taught.id)}
        assert "no_verdict" not in kinds, client.report(taught.id)
        assert time.monotonic() < until_s, report
        time.sleep(0.5)

    alone, with_teacher = (one.best_map for one in ended)
    assert alone is not None
    assert with_teacher is not None
    assert found.comparison.difference == pytest.approx(with_teacher - alone, abs=1e-6)
    told = Report.model_validate_json(client.report(taught.id, format="json"))
    assert told.comparisons[0].baselines == (taught.baseline_run_id,)
    assert "<html" in client.report(taught.id, format="html")
    while Tag.VERDICT not in (tracked := tracked_run(shell.mlflow_url, taught.id).data).tags:
        assert time.monotonic() < until_s
        time.sleep(0.5)
    assert tracked.tags[Tag.VERDICT] == found.comparison.verdict
    assert tracked.tags[Tag.BASELINE_RUN_ID] == taught.baseline_run_id
    assert tracked.metrics[gain_metric("bbox_mAP")] == pytest.approx(found.comparison.difference)
    again = client.launch(RunRequest(preset="quick/instant_bckd", changes=changes))
    client.cancel(again.id)
    assert again.baseline_run_id == taught.baseline_run_id
