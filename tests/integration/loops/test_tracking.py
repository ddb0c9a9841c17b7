"""What the service writes into MLflow beside metrics, and the URLs that it answers."""

from configs.protocol.names import Tag
from configs.protocol.records import Delivery, Tracked
from service.domain.mlflow_views import RUNS_VIEW
from tests.support.factories import make_spec
from tests.support.service.baseline_pairs import (
    launch_pair,
    make_comparison,
    make_report,
    start_attempt,
    train_run,
)
from tests.support.service.stage import Stage

RUNS_VIEW_TAG = f"mlflow.sharedViewState.{RUNS_VIEW}"


def test_the_experiment_has_views_before_the_first_run(stage: Stage) -> None:
    stage.run_loops()

    tags = stage.tracker.experiment_tags["e-default"]
    assert RUNS_VIEW_TAG in tags
    assert "/#/experiments/e-default/runs?viewStateShareKey=tandem" in tags[Tag.NOTE]


def test_a_view_that_people_changed_stays(stage: Stage) -> None:
    stage.run_loops()
    stage.tracker.experiment_tags["e-default"][RUNS_VIEW_TAG] = "ours"

    stage.restart()
    stage.run_loops()

    assert stage.tracker.experiment_tags["e-default"][RUNS_VIEW_TAG] == "ours"


def test_the_experiment_is_prepared_as_soon_as_mlflow_answers(stage: Stage) -> None:
    stage.tracker.is_reachable = False
    stage.run_loops()
    stage.tracker.is_reachable = True
    stage.clock.advance(10)

    stage.run_loops()

    assert RUNS_VIEW_TAG in stage.tracker.experiment_tags["e-default"]


def test_a_new_project_gets_its_experiment_within_a_minute(stage: Stage) -> None:
    stage.run_loops()
    stage.add_dataset()
    stage.launch(spec=make_spec(), project="signs")

    stage.run_loops()
    assert "e-signs" not in stage.tracker.experiment_tags
    stage.clock.advance(60)
    stage.run_loops()

    assert RUNS_VIEW_TAG in stage.tracker.experiment_tags["e-signs"]


def test_a_pair_shares_a_tag_and_has_descriptions(stage: Stage) -> None:
    run_id, baseline_id = train_tracked_pair(stage)

    tags = [stage.tracker.tags[f"m-{run}"] for run in (run_id, baseline_id)]
    assert [item[Tag.PAIR] for item in tags] == [baseline_id, baseline_id]
    assert f"baseline [{baseline_id}]" in tags[0][Tag.NOTE]
    assert f"run `{baseline_id}`" in tags[1][Tag.NOTE]


def test_the_verdict_is_in_the_description(stage: Stage) -> None:
    run_id, baseline_id = train_tracked_pair(stage)

    make_report(stage, stage.run(run_id)["report_run_id"], make_comparison(run_id, baseline_id))

    note = stage.tracker.tags[f"m-{run_id}"][Tag.NOTE]
    assert "Distillation helps: +2.3 mAP" in note
    assert f"({stage.run(run_id)['compare_url']})" in note


def test_a_run_is_described_while_it_trains(stage: Stage) -> None:
    run_id = launch_tracked_run(stage)

    assert f"run `{run_id}`" in stage.tracker.tags[f"m-{run_id}"][Tag.NOTE]


def test_a_run_that_was_deleted_in_mlflow_stops_nothing(stage: Stage) -> None:
    run_id = launch_tracked_run(stage, is_deleted=True)

    assert f"m-{run_id}" not in stage.tracker.tags
    assert stage.run(run_id)["state"] == "running"


def test_the_api_links_the_page_of_a_run_and_the_one_that_compares(stage: Stage) -> None:
    run_id, baseline_id = train_tracked_pair(stage)

    run, baseline = stage.run(run_id), stage.run(baseline_id)

    page = "/#/experiments/e-default/runs/m-{}?workflowType=machine_learning"
    assert run["mlflow_url"].endswith(page.format(run_id))
    assert baseline["mlflow_url"].endswith(page.format(baseline_id))
    assert f"%22m-{run_id}%22%2C%22m-{baseline_id}%22" in run["compare_url"]
    assert "metric=%22val%2Fbbox_mAP%22" in run["compare_url"]
    assert baseline["compare_url"] is None


def test_there_is_no_page_before_mlflow_has_the_runs(stage: Stage) -> None:
    run_id, _ = launch_pair(stage)
    stage.run_loops()

    run = stage.run(run_id)

    assert (run["mlflow_url"], run["compare_url"]) == (None, None)


def train_tracked_pair(stage: Stage) -> tuple[str, str]:
    run_id, baseline_id = launch_pair(stage)
    train_run(stage, baseline_id, 0.307, has_mlflow_run=True)
    train_run(stage, run_id, 0.33, has_mlflow_run=True)
    return run_id, baseline_id


def launch_tracked_run(stage: Stage, *, is_deleted: bool = False) -> str:
    """Launch a run whose worker has created its MLflow run, and run the loops once."""
    stage.add_dataset()
    run_id = str(stage.launch(spec=make_spec())["id"])
    start_attempt(stage, run_id)
    if is_deleted:
        stage.tracker.deleted.add(f"m-{run_id}")
    record = Tracked(at=stage.clock.now(), attempt=1, mlflow_run_id=f"m-{run_id}")
    body = Delivery(first=0, records=(record,)).model_dump(mode="json")
    assert stage.http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=body).is_success
    stage.run_loops()
    return run_id
