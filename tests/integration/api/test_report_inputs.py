"""What the service collects for a report: losses, speed, time and pages of MLflow."""

from datetime import timedelta

import pytest

from configs.metric_keys import Metric, measured_share_metric, weight_metric
from configs.protocol.records import Delivery, Metrics, Progress
from configs.spec.jobs import ReportSpec
from service.usecases.report_inputs import build_report_inputs
from tests.support.service.baseline_pairs import launch_pair, start_attempt, train_run
from tests.support.service.stage import SLOW_ON_POSTGRESQL, Stage


def deliver_losses(stage: Stage, run_id: str, *, steps: int, every_steps: int) -> None:
    """Deliver a falling loss, a rising weight and a constant speed, as the first attempt."""
    at = stage.clock.now()
    records = [
        Metrics(
            at=at,
            attempt=1,
            step=step,
            values={
                Metric.LOSS_CLS: 1.0 - step / steps / 2,
                Metric.IMAGES_PER_S: 40.0,
                weight_metric("distill_loc"): 8.0 * step / steps,
                measured_share_metric("distill_loc"): 0.25,
            },
        )
        for step in range(every_steps, steps + 1, every_steps)
    ]
    progress = Progress(
        at=at, attempt=1, phase="training", epoch=4, epochs=4, step=steps, steps=steps, eta_s=0.0
    )
    body = Delivery(first=0, records=(*records, progress)).model_dump(mode="json")
    assert stage.http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=body).is_success


@SLOW_ON_POSTGRESQL
def test_losses_are_thinned_and_speed_is_a_median(any_stage: Stage) -> None:
    run_id, _ = launch_pair(any_stage)
    start_attempt(any_stage, run_id)
    deliver_losses(any_stage, run_id, steps=1000, every_steps=5)

    inputs = build_report_inputs(ReportSpec(run=run_id, tags={}), ctx=any_stage.ctx)

    (run,) = [run for run in inputs.runs if run.id == run_id]
    assert 50 <= len(run.losses) <= 60
    assert run.losses[-1].epoch == 4.0
    assert run.losses[-1].step == 1000
    losses = [point.values[Metric.LOSS_CLS] for point in run.losses]
    assert losses == sorted(losses, reverse=True)
    assert set(run.losses[0].values) == {Metric.LOSS_CLS}
    weights = [point.values[weight_metric("distill_loc")] for point in run.weights]
    assert [point.step for point in run.weights] == [point.step for point in run.losses]
    assert weights == sorted(weights)
    assert run.weights[-1].values[measured_share_metric("distill_loc")] == pytest.approx(0.25)
    assert run.execution.images_per_s == pytest.approx(40.0)
    assert run.execution.steps == 1000
    assert run.execution.finished_at is None


def test_a_finished_run_has_its_time_its_evaluations_and_its_page_in_mlflow(stage: Stage) -> None:
    run_id, baseline_id = launch_pair(stage)
    train_run(stage, baseline_id, 0.3)
    train_run(stage, run_id, 0.33, has_mlflow_run=True)

    inputs = build_report_inputs(ReportSpec(run=run_id, tags={}), ctx=stage.ctx)

    run, baseline = inputs.runs
    assert [point.epoch for point in run.curve] == [1.0, 2.0]
    assert run.execution.state == "succeeded"
    assert run.execution.attempts == 1
    assert run.execution.started_at is not None
    assert run.execution.finished_at is not None
    assert run.execution.finished_at - run.execution.started_at >= timedelta(0)
    assert run.mlflow_url == stage.ctx.mlflow_pages.run(f"m-{run_id}", project="default")
    assert baseline.mlflow_url is None
    assert inputs.preset is None
