"""Runs of several processes over the API, on a cluster whose nodes come and go."""

from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.protocol.records import Outcome
from service.domain.ports import Node
from tests.support.factories import make_spec
from tests.support.service.stage import Stage

FOUR_FREE = (Node(2.0, 0.0, 2.0, 0.0), Node(2.0, 0.0, 2.0, 0.0))
TWO_FREE = FOUR_FREE[:1]
ALL_TAKEN = (Node(2.0, 0.0, 0.0, 0.0), Node(2.0, 0.0, 0.0, 0.0))


def test_a_driver_that_takes_no_core_places_the_processes_over_the_nodes(stage: Stage) -> None:
    run_id = start_group(stage)

    order = stage.cluster.job_requests[f"{run_id}-a1"]

    assert (order.num_cpus, order.num_gpus) == (0, 0)
    assert get_option(order.command, "--processes") == "4"
    assert [attempt["processes"] for attempt in list_attempts(stage, run_id)] == [4]


def test_processes_that_ray_has_not_counted_yet_leave_no_capacity_for_others(stage: Stage) -> None:
    start_group(stage)
    other = stage.launch(spec=make_spec())["id"]

    stage.run_loops()
    assert stage.run(other)["state"] == "queued"
    stage.cluster.cluster_nodes = (*FOUR_FREE, Node(1.0, 0.0, 1.0, 0.0))
    stage.run_loops()

    assert stage.run(other)["state"] == "starting"


def test_more_processes_than_the_cluster_has_capacity_for_are_refused(stage: Stage) -> None:
    stage.cluster.cluster_nodes = TWO_FREE
    stage.add_dataset()

    response = stage.http.post("/v1/runs", json={"spec": make_group_spec()})

    (problem,) = response.json()["errors"]
    assert response.status_code == 422
    assert problem["field"] == "resources.processes"
    assert "4 processes" in problem["message"]


def test_the_first_attempt_waits_for_capacity_for_all_and_says_so(stage: Stage) -> None:
    stage.cluster.cluster_nodes = FOUR_FREE
    stage.add_dataset()
    run_id = stage.launch(spec=make_group_spec())["id"]
    stage.cluster.cluster_nodes = TWO_FREE

    stage.run_loops()
    stage.clock.advance(1000)
    stage.run_loops()

    assert stage.run(run_id)["state"] == "queued"
    assert "room for 2" in stage.run(run_id)["waiting_for"]


def test_after_a_loss_fewer_processes_go_on_with_the_same_batches(stage: Stage) -> None:
    run_id = start_group(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=20)
    stage.cluster.cluster_nodes = TWO_FREE

    stage.run_loops()
    stage.run_loops()
    assert stage.run(run_id)["state"] == "queued", "all of them may be back in a moment"
    stage.clock.advance(31)
    stage.run_loops()

    assert stage.run(run_id)["state"] == "starting"
    assert get_option(stage.cluster.job_requests[f"{run_id}-a2"].command, "--processes") == "2"
    assert [attempt["processes"] for attempt in list_attempts(stage, run_id)] == [4, 2]
    message = "Resumes with 2 of 4 processes and twice as many micro-batches."
    assert message in [event["details"] for event in list_events(stage, run_id)]


def test_a_single_process_that_goes_on_is_the_job_itself(stage: Stage) -> None:
    run_id = start_group(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=20)
    stage.cluster.cluster_nodes = (Node(1.0, 0.0, 1.0, 0.0),)
    stage.run_loops()
    stage.clock.advance(31)

    stage.run_loops()

    order = stage.cluster.job_requests[f"{run_id}-a2"]
    assert (order.num_cpus, get_option(order.command, "--processes")) == (1, "1")


def test_all_processes_resume_where_all_have_capacity_again(stage: Stage) -> None:
    run_id = start_group(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=20)

    stage.run_loops()
    stage.run_loops()

    assert [attempt["processes"] for attempt in list_attempts(stage, run_id)] == [4, 4]
    assert "processes_reduced" not in [event["kind"] for event in list_events(stage, run_id)]


def test_a_run_that_names_no_smaller_number_waits_for_its_nodes(stage: Stage) -> None:
    run_id = start_group(stage, min_processes=None)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=20)
    stage.cluster.cluster_nodes = ALL_TAKEN
    stage.run_loops()
    stage.clock.advance(1000)

    stage.run_loops()

    assert stage.run(run_id)["state"] == "queued"
    assert stage.run(run_id)["waiting_for"].endswith("to become free")


GPU_NODES = tuple(Node(4.0, 4.0, 4.0, 4.0, name) for name in ("good", "bad"))


@pytest.mark.parametrize(
    ("node_id", "avoided"), [("bad", ["bad"]), (None, [])], ids=["named", "not known"]
)
def test_the_node_that_failed_is_avoided_and_not_the_drivers(
    stage: Stage, node_id: str | None, avoided: list[str]
) -> None:
    stage.add_dataset()
    stage.cluster.cluster_nodes = (*GPU_NODES, Node(2.0, 0.0, 2.0, 0.0, "head"))
    run_id = stage.launch(spec=make_group_spec(num_gpus=1))["id"]
    for attempt in (1, 2):
        stage.run_loops()
        job = f"{run_id}-a{attempt}"
        stage.cluster.node_ids_by_job[job] = "head"
        stage.cluster.set_job_state(job, "running")
        stage.run_loops()
        report_failure(stage, run_id, attempt=attempt, node_id=node_id)
        stage.cluster.set_job_state(job, "failed", exit_code=20)
        stage.run_loops()
        stage.clock.advance(70)

    stage.run_loops()

    assert [attempt["node_id"] for attempt in list_attempts(stage, run_id)[:2]] == [node_id] * 2
    command = stage.cluster.job_requests[f"{run_id}-a3"].command
    named = [command[at + 1] for at, argument in enumerate(command) if argument == "--avoid"]
    assert named == avoided


def test_a_driver_that_could_not_speak_answers_for_its_node(stage: Stage) -> None:
    run_id = start_group(stage)
    stage.cluster.node_ids_by_job[f"{run_id}-a1"] = "head"
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)

    stage.run_loops()

    assert list_attempts(stage, run_id)[0]["node_id"] == "head"


def test_a_job_that_was_never_submitted_has_the_same_number_of_processes_again(
    stage: Stage,
) -> None:
    run_id = start_group(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=20)
    stage.cluster.cluster_nodes = TWO_FREE
    stage.run_loops()
    stage.clock.advance(31)
    stage.run_loops()
    stage.cluster.forget_jobs()
    stage.cluster.cluster_nodes = FOUR_FREE

    stage.run_loops()

    assert get_option(stage.cluster.job_requests[f"{run_id}-a2"].command, "--processes") == "2"


def make_group_spec(**resources: Any) -> dict[str, Any]:
    return make_spec(resources={"processes": 4, "min_processes": 1} | resources)


def start_group(stage: Stage, **resources: Any) -> str:
    stage.cluster.cluster_nodes = FOUR_FREE
    stage.add_dataset()
    run_id: str = stage.launch(spec=make_group_spec(**resources))["id"]
    stage.run_loops()
    return run_id


def report_failure(stage: Stage, run_id: str, *, attempt: int, node_id: str | None) -> None:
    """Write the driver's outcome, which it could not deliver, to the spool."""
    outcome = Outcome(
        at=stage.clock.now(),
        attempt=attempt,
        result="failed",
        reason=FailureReason.NODE_LOST,
        message="A training process was lost (rank 2).",
        node_id=node_id,
    )
    with (stage.home / "runs" / run_id / RunFile.SPOOL).open("a") as spool:
        spool.write(outcome.model_dump_json() + "\n")


def list_attempts(stage: Stage, run_id: str) -> list[dict[str, Any]]:
    return list(stage.http.get(f"/v1/runs/{run_id}/attempts").json()["items"])


def list_events(stage: Stage, run_id: str) -> list[dict[str, Any]]:
    return list(stage.http.get(f"/v1/runs/{run_id}/events").json()["items"])


def get_option(command: tuple[str, ...], name: str) -> str:
    return command[command.index(name) + 1]
