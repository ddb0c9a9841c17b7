"""Requests that queue a run wake the queue's loop, so that no run waits for its next turn."""

from collections.abc import Callable

import pytest

from service.domain.ports import Node
from service.domain.states import RunState
from service.main import make_loops
from tests.support.factories import make_spec
from tests.support.service.baseline_pairs import launch_pair
from tests.support.service.stage import Stage
from tests.support.waiting import wait_until

WEEK_S = 600_000.0


def launch(stage: Stage) -> None:
    stage.launch(spec=make_spec())


def resume(stage: Stage) -> None:
    run_id = stage.launch(spec=make_spec())["id"]
    stage.http.post(f"/v1/runs/{run_id}:pause").raise_for_status()
    stage.ctx.queue_changed.clear()
    stage.http.post(f"/v1/runs/{run_id}:resume").raise_for_status()


def retry(stage: Stage) -> None:
    run_id = stage.launch(spec=make_spec())["id"]
    stage.http.post(f"/v1/runs/{run_id}:cancel").raise_for_status()
    stage.ctx.queue_changed.clear()
    stage.http.post(f"/v1/runs/{run_id}:retry").raise_for_status()


@pytest.mark.parametrize("queue_runs", [launch, resume, retry])
def test_what_queues_a_run_wakes_the_queue(
    stage: Stage, queue_runs: Callable[[Stage], None]
) -> None:
    stage.add_dataset()

    queue_runs(stage)

    assert stage.ctx.queue_changed.is_set()


def test_a_repeated_pair_wakes_the_queue(stage: Stage) -> None:
    run_id, _ = launch_pair(stage)
    stage.ctx.queue_changed.clear()

    stage.http.post(f"/v1/runs/{run_id}:repeat", json={"seeds": 2}).raise_for_status()

    assert stage.ctx.queue_changed.is_set()


def test_only_what_queues_a_run_wakes_the_queue(stage: Stage) -> None:
    stage.add_dataset()
    run_id = stage.launch(spec=make_spec())["id"]
    stage.ctx.queue_changed.clear()

    stage.http.post(f"/v1/runs/{run_id}:pause").raise_for_status()
    stage.http.get("/v1/runs").raise_for_status()

    assert not stage.ctx.queue_changed.is_set()


def test_the_queue_can_be_woken_unless_runs_wait_for_capacity(stage: Stage) -> None:
    stage.add_dataset()
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0),)
    assert stage.submitter.can_start_more()

    launch(stage)
    stage.submitter.run_once()
    could_start_another = stage.submitter.can_start_more()
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 0.0, 0.0),)
    launch(stage)
    stage.submitter.run_once()

    assert could_start_another
    assert not stage.submitter.can_start_more()


def test_a_run_that_waits_for_another_one_does_not_keep_the_queue_from_being_woken(
    stage: Stage,
) -> None:
    stage.add_dataset()
    teacher = stage.launch(spec=make_spec())["id"]
    stage.submitter.run_once()
    student = stage.launch(
        spec=make_spec(teacher={"run": teacher}, distillation={"method": "bckd"}), baseline="off"
    )["id"]

    stage.submitter.run_once()

    assert stage.run(student)["waiting_for"] is not None
    assert stage.submitter.can_start_more()


def test_a_launched_run_is_submitted_without_waiting_for_the_interval(stage: Stage) -> None:
    stage.add_dataset()
    queue = next(loop for loop in make_loops(stage.ctx, interval_s=WEEK_S) if loop.name == "submit")
    queue.start()

    run_id = stage.launch(spec=make_spec())["id"]

    wait_until(
        lambda: stage.run(run_id)["state"] == RunState.STARTING, timeout_s=60, interval_s=0.01
    )
    queue.stop(timeout_s=60)
