"""The lifecycle of a sweep: probe, search, baselines, report, stop and restart."""

from configs.protocol.names import Tag
from configs.protocol.probe import ParameterEffect
from service.domain.ports import Node
from tests.support.service.simulated_sweep import (
    CLS,
    LOC,
    MAP,
    complete_sweep,
    launch_sweep,
    make_probe,
    make_sweep_request,
    start_search,
    train_trial,
)
from tests.support.service.stage import SLOW_ON_POSTGRESQL, Stage


@SLOW_ON_POSTGRESQL
def test_a_sweep_is_probed_searched_and_reported(any_stage: Stage) -> None:
    sweep = launch_sweep(any_stage)
    any_stage.run_loops()
    any_stage.run_loops()
    assert sweep.state == "probing"
    probe = any_stage.run(sweep.view["probe_run_id"])
    assert (probe["task"], probe["sweep_id"], probe["trial"]) == ("probe", sweep.id, None)

    sweep.finish_probe()
    any_stage.run_loops()
    assert (sweep.state, sweep.view["pack_size"]) == ("searching", 1)
    order = any_stage.cluster.job_requests[f"{sweep.id}-d1"]
    assert order.command[:4] == ("tandem-worker", "sweep-driver", "--sweep", sweep.id)
    assert order.num_cpus == 0

    first = train_trial(sweep, 0, 0.3, **{CLS: 1.0, LOC: 1})
    train_trial(sweep, 1, 0.5, **{CLS: 2.0, LOC: 0})
    run = any_stage.run(first)
    assert (run["name"], run["sweep_id"], run["trial"]) == ("weights #0", sweep.id, 0)
    assert run["spec"]["distillation"]["cls_weight"] == 1.0
    assert sweep.view["best"] == {
        "trial": 1,
        "values": {CLS: 2.0, LOC: 0},
        "objective": 0.5,
    }

    assert sweep.close().json() == {"next": 5, "allows_new_trials": False}
    any_stage.run_loops()
    any_stage.run_loops()
    assert sweep.state == "reporting"
    report = any_stage.run(sweep.view["report_run_id"])
    assert (report["task"], report["spec"]["sweep"]) == ("report", sweep.id)
    sweep.finish_report()

    assert sweep.state == "succeeded"
    assert sweep.view["by_result"] == {"finished": 2}
    page = any_stage.http.get(f"/v1/sweeps/{sweep.id}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert "Did it help?" in page.text


def test_how_many_train_with_one_teacher_is_settled_when_the_search_begins(stage: Stage) -> None:
    sweep = launch_sweep(stage, pack="auto")
    stage.run_loops()
    stage.run_loops()
    assert sweep.view["pack_size"] == 1

    sweep.finish_probe()
    stage.run_loops()

    assert (sweep.state, sweep.view["pack_size"]) == ("searching", 2)


def test_a_parameter_without_effect_ends_the_sweep_before_it_costs_anything(stage: Stage) -> None:
    sweep = launch_sweep(stage)
    stage.run_loops()
    stage.run_loops()
    idle = ParameterEffect(has_effect=False, detail="no level has positives")

    sweep.finish_probe(make_probe(effects={CLS: make_probe().effects[CLS], LOC: idle}))

    assert sweep.state == "failed"
    assert f"{LOC} (no level has positives)" in sweep.view["message"]
    assert sweep.trials == []


def test_a_probe_that_fails_or_leaves_nothing_ends_the_sweep(stage: Stage) -> None:
    sweep, other = launch_sweep(stage), launch_sweep(stage)
    stage.run_loops()
    stage.run_loops()

    sweep.finish(sweep.view["probe_run_id"], "failed")
    other.finish(other.view["probe_run_id"])

    assert (sweep.state, other.state) == ("failed", "failed")
    assert "it broke" in sweep.view["message"]
    assert "probe.json" in other.view["message"]


def test_a_teacher_that_is_far_below_what_it_was_is_told(stage: Stage) -> None:
    sweep = launch_sweep(stage)
    stage.run_loops()
    stage.run_loops()

    sweep.finish_probe(make_probe(teacher_map=0.001))

    assert "little to teach" in sweep.view["warnings"][0]
    assert sweep.state == "searching"


def test_a_used_up_budget_begins_no_more_trials(stage: Stage) -> None:
    sweep = start_search(stage, budget={"trials": 9, "hours": 1})
    sweep.suggest(0)
    assert sweep.log()["allows_new_trials"]

    stage.clock.advance(3600)

    assert not sweep.log()["allows_new_trials"]
    late = sweep.write({"kind": "suggested", "number": 1, "values": {CLS: 1.0, LOC: 1}})
    assert late.json()["allows_new_trials"] is False
    assert sweep.trials[1]["runs"] == []
    assert sweep.progress()[1]["result"] == "cancelled"


def test_a_stopped_sweep_ends_its_trials_and_still_reports(stage: Stage) -> None:
    sweep = start_search(stage)
    train_trial(sweep, 0, 0.3)
    waits, trains = sweep.suggest(1)[0], sweep.suggest(2)[0]
    stage.run_loops()

    view = stage.http.post(f"/v1/sweeps/{sweep.id}:stop").json()

    assert (view["state"], view["desired"]) == ("searching", "stop")
    assert not sweep.log()["allows_new_trials"]
    assert {stage.run(run_id)["desired"] for run_id in (waits, trains)} == {"cancelled"}
    for number, run_id in enumerate((waits, trains), start=1):
        sweep.finish(run_id, "cancelled")
        assert sweep.progress()[number]["result"] == "cancelled"
        sweep.end(number, "cancelled", 0)
    complete_sweep(sweep)
    assert sweep.state == "stopped"
    assert stage.http.get(f"/v1/sweeps/{sweep.id}/report").is_success
    repeated = stage.http.post(f"/v1/sweeps/{sweep.id}:stop")
    assert repeated.json()["state"] == "stopped"


def test_a_sweep_that_is_stopped_while_it_is_probed_is_over_with_its_probe(stage: Stage) -> None:
    early, probed = launch_sweep(stage), launch_sweep(stage)
    stage.http.post(f"/v1/sweeps/{early.id}:stop")
    stage.run_loops()
    stage.run_loops()

    stage.http.post(f"/v1/sweeps/{probed.id}:stop")
    probed.finish(probed.view["probe_run_id"], "cancelled")
    stage.run_loops()

    assert (early.state, probed.state) == ("stopped", "stopped")
    assert early.view["probe_run_id"] is None


def test_a_sweep_without_trials_makes_no_report(stage: Stage) -> None:
    sweep = start_search(stage)

    sweep.close("There was nothing to do.")
    stage.run_loops()

    assert (sweep.state, sweep.view["report_run_id"]) == ("succeeded", None)
    missing = stage.http.get(f"/v1/sweeps/{sweep.id}/report")
    assert (missing.status_code, missing.json()["code"]) == (404, "report_not_found")
    assert "tandem extend" in missing.json()["detail"]


def test_a_report_that_fails_is_told_and_the_sweep_has_succeeded(stage: Stage) -> None:
    sweep = start_search(stage)
    train_trial(sweep, 0, 0.3)
    sweep.close()
    stage.run_loops()
    stage.run_loops()

    run_id = sweep.finish_report(result="failed")

    assert sweep.state == "succeeded"
    assert f"Its report, run {run_id}, is failed: it broke" in sweep.view["message"]
    missing = stage.http.get(f"/v1/sweeps/{sweep.id}/report").json()
    assert f"tandem retry {run_id}" in missing["detail"]


def test_trials_are_compared_with_the_student_alone_and_seeds_tell_the_noise(
    stage: Stage,
) -> None:
    stage.cluster.cluster_nodes = (Node(9.0, 0.0, 9.0, 0.0),)
    sweep = start_search(stage, baseline=True, noise_runs=2)
    listed = stage.http.get("/v1/runs", params={"sweep": sweep.id}).json()["items"]
    baselines = [stage.run(run["id"]) for run in listed]
    assert [run["spec"]["seed"] for run in baselines] == [1, 0]
    assert all(run["spec"]["teacher"] is None and run["trial"] is None for run in baselines)

    run_id = train_trial(sweep, 0, 0.3)
    sweep.close()
    stage.run_loops()

    assert stage.run(run_id)["baseline_run_id"] == baselines[1]["id"]
    assert (sweep.state, sweep.view["report_run_id"]) == ("reporting", None)
    assert "a baseline, run" in sweep.view["waiting_for"]
    for run in baselines:
        sweep.finish(run["id"])
    stage.run_loops()
    assert sweep.view["report_run_id"] is not None


def test_a_stopped_sweep_waits_for_no_baseline(stage: Stage) -> None:
    sweep = start_search(stage, baseline=True, noise_runs=0)
    sweep.suggest(0)
    stage.http.post(f"/v1/sweeps/{sweep.id}:stop")
    sweep.end(0, "cancelled", 0)

    complete_sweep(sweep)

    assert sweep.state == "stopped"


def test_a_stopped_sweep_leaves_others_the_baselines_that_they_are_compared_with(
    stage: Stage,
) -> None:
    sweep = start_search(stage, baseline=True, noise_runs=2)
    shared = stage.launch(spec=make_sweep_request()["spec"])["baseline_run_id"]
    noise_runs = stage.http.get("/v1/runs", params={"sweep": sweep.id}).json()["items"]

    stage.http.post(f"/v1/sweeps/{sweep.id}:stop")

    desired_states = {run["id"]: stage.run(run["id"])["desired"] for run in noise_runs}
    assert desired_states.pop(shared) == "run"
    assert list(desired_states.values()) == ["cancelled"]


def test_a_service_that_restarts_goes_on_where_it_was(stage: Stage) -> None:
    sweep = launch_sweep(stage)
    stage.restart()
    stage.run_loops()
    stage.restart()
    stage.run_loops()
    sweep.finish_probe()
    stage.restart()
    stage.run_loops()
    train_trial(sweep, 0, 0.3)
    stage.restart()
    complete_sweep(sweep)
    stage.restart()
    stage.run_loops()

    assert sweep.state == "succeeded"
    jobs = [job for job in stage.cluster.job_requests if job.startswith(sweep.id)]
    assert jobs == [f"{sweep.id}-d1"]
    tasks = [run["task"] for run in stage.http.get("/v1/runs").json()["items"]]
    assert sorted(tasks) == ["probe", "report", "train"]


def test_mlflow_shows_the_trials_below_their_sweep(stage: Stage) -> None:
    stage.tracker.is_reachable = False
    sweep = start_search(stage)
    assert (sweep.state, sweep.view["mlflow_run_id"]) == ("searching", None)

    stage.tracker.is_reachable = True
    (run_id,) = sweep.suggest(0)
    stage.tracker.runs[run_id] = "m-trial"
    stage.run_loops()
    sweep.report_evaluation(run_id, 4, 0.3)
    sweep.finish(run_id)
    sweep.end(0, "finished", 4, val_bbox_mAP=0.3)
    complete_sweep(sweep)
    stage.clock.advance(30)
    stage.run_loops()

    parent = sweep.view["mlflow_run_id"]
    assert stage.tracker.sweeps == {sweep.id: parent}
    assert stage.tracker.tags["m-trial"][Tag.PARENT] == parent
    assert f"mlflow.sharedViewState.{sweep.id}" in stage.tracker.experiment_tags["e-default"]
    assert f"?viewStateShareKey={sweep.id}&" in sweep.view["mlflow_url"]
    assert stage.tracker.statuses[parent] == "FINISHED"
    assert stage.tracker.metrics[parent][MAP] == 0.3
    with stage.ctx.store.transaction() as uow:
        assert uow.sweeps.not_synced() == []


def test_a_sweep_that_was_deleted_in_mlflow_is_left_alone(stage: Stage) -> None:
    sweep = start_search(stage)
    stage.tracker.deleted.add(sweep.view["mlflow_run_id"])
    train_trial(sweep, 0, 0.3)

    complete_sweep(sweep)
    stage.clock.advance(30)
    stage.run_loops()

    assert sweep.state == "succeeded"
    with stage.ctx.store.transaction() as uow:
        assert uow.sweeps.not_synced() == []
