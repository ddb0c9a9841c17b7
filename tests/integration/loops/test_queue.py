"""The queue over the API: capacity that could be added, limits, nodes that lose attempts."""

from pathlib import Path

from service.domain.ports import Node
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.stage import Stage, open_stage

GPUS = {"cpus": 16, "gpus": 4, "count": 2}
ONE_FREE = (Node(2.0, 0.0, 1.0, 0.0, "n1"),)


def test_what_a_growing_cluster_could_run_is_taken_and_submitted(tmp_path: Path) -> None:
    with open_stage(tmp_path, autoscales_to=[GPUS]) as stage:
        stage.add_dataset()
        fits = {"num_gpus": 1, "processes": 4}
        run_id = stage.launch(spec=make_spec(resources=fits))["id"]
        too_much = {"num_gpus": 1, "processes": 16}
        spec = make_spec(resources=too_much)
        spec["data"] = {**spec["data"], "batch_size": 16}
        response = stage.http.post("/v1/runs", json={"spec": spec})
        stage.run_loops()

        assert stage.run(run_id)["state"] == "starting"
        assert response.status_code == 422
        assert "room for 8" in response.json()["detail"]


def test_nodes_that_were_added_are_not_counted_twice(tmp_path: Path) -> None:
    with open_stage(tmp_path, autoscales_to=[GPUS]) as stage:
        stage.cluster.cluster_nodes = (
            Node(16.0, 4.0, 0.0, 0.0, "n1"),
            Node(16.0, 4.0, 0.0, 0.0, "n2"),
        )
        stage.add_dataset()
        run_id = stage.launch(spec=make_spec(resources={"num_gpus": 1}))["id"]

        stage.run_loops()

        assert stage.run(run_id)["waiting_for"].endswith("to become free")


def test_a_project_at_its_limit_waits_and_holds_nobody_up(stage: Stage) -> None:
    stage.add_dataset()
    stage.http.put("/v1/projects/busy", json={"max_runs": 1})
    first, second = (stage.launch(spec=make_spec(), project="busy")["id"] for _ in range(2))
    other = stage.launch(spec=make_spec(), project="other")["id"]

    stage.run_loops()

    assert [stage.run(run)["state"] for run in (first, other)] == ["starting", "starting"]
    assert "fewer than 1 runs" in stage.run(second)["waiting_for"]
    stage.http.put("/v1/projects/busy", json={})
    stage.cluster.cluster_nodes = (Node(4.0, 0.0, 4.0, 0.0, "n1"),)
    stage.run_loops()
    assert stage.run(second)["state"] == "starting"


def test_a_node_that_loses_three_attempts_is_avoided(stage: Stage) -> None:
    usable_node, avoided_node = Node(2.0, 0.0, 2.0, 0.0, "good"), Node(2.0, 0.0, 2.0, 0.0, "bad")
    stage.cluster.cluster_nodes = (avoided_node, usable_node)
    stage.add_dataset()
    for _ in range(3):
        run_id = stage.launch(spec=make_spec())["id"]
        stage.run_loops()
        stage.cluster.node_ids_by_job[f"{run_id}-a1"] = "bad"
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
        stage.run_loops()
        stage.http.post(f"/v1/runs/{run_id}:cancel")

    last = stage.launch(spec=make_spec())["id"]
    stage.run_loops()
    assert stage.cluster.job_requests[f"{last}-a1"].avoid == {"bad"}
    stage.clock.advance(1801)
    later = stage.launch(spec=make_spec())["id"]
    stage.run_loops()

    assert stage.cluster.job_requests[f"{later}-a1"].avoid == frozenset()


def test_a_broken_gpu_does_not_take_a_run_until_it_has_failed_for_good(stage: Stage) -> None:
    usable_node, avoided_node = Node(2.0, 1.0, 2.0, 1.0, "good"), Node(2.0, 1.0, 2.0, 1.0, "bad")
    stage.cluster.cluster_nodes = (avoided_node, usable_node)
    stage.add_dataset()
    run_id = stage.launch(spec=make_spec(resources={"num_gpus": 1}))["id"]
    for attempt in (1, 2):
        stage.run_loops()
        stage.cluster.node_ids_by_job[f"{run_id}-a{attempt}"] = "bad"
        stage.cluster.set_job_state(f"{run_id}-a{attempt}", "failed", exit_code=20)
        stage.run_loops()
        stage.clock.advance(6)

    stage.run_loops()

    assert stage.cluster.job_requests[f"{run_id}-a3"].avoid == {"bad"}
    without_gpu = stage.launch(spec=make_spec())["id"]
    stage.run_loops()
    assert stage.cluster.job_requests[f"{without_gpu}-a1"].avoid == frozenset()


def test_a_student_whose_teacher_failed_says_so_and_can_be_tried_again(stage: Stage) -> None:
    stage.add_dataset()
    teacher = stage.launch(spec=make_spec())["id"]
    student = stage.launch(spec=make_bckd_spec(teacher={"run": teacher}))["id"]
    stage.http.post(f"/v1/runs/{teacher}:cancel")

    stage.run_loops()

    run = stage.run(student)
    assert (run["state"], run["reason"]) == ("failed", "dependency_failed")
    assert teacher in run["message"]
    assert "tandem retry" in run["advice"]
    stage.http.post(f"/v1/runs/{teacher}:retry")
    stage.http.post(f"/v1/runs/{student}:retry")
    stage.run_loops()
    assert teacher in stage.run(student)["waiting_for"]
