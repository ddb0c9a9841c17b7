"""What people want of a run that is there, over the API: pause, resume, retry, priority."""

from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from service.domain.ports import Node
from tests.support.factories import a_spec
from tests.support.service.runs import a_running_run, deliver, outcome, progress
from tests.support.service.stage import Stage


class TestPause:
    """The attempt leaves with a checkpoint; no other starts until the run is resumed."""

    def test_a_queued_run_rests_until_it_is_resumed(self, stage: Stage) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=a_spec())["id"]

        ask(stage, run_id, "pause")
        stage.turn()
        assert stage.run(run_id)["state"] == "paused"
        assert stage.cluster.job_requests == {}
        ask(stage, run_id, "resume")
        stage.turn()

        assert stage.run(run_id)["state"] == "starting"

    def test_a_running_one_is_told_leaves_and_goes_on_later(self, stage: Stage) -> None:
        run_id = a_running_run(stage)

        ask(stage, run_id, "pause")
        receipt = deliver(stage, run_id, [outcome(stage, "stopped")])
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=50)
        stage.turn()

        assert receipt["stop"] == "pause"
        assert stage.run(run_id)["state"] == "paused"
        assert stage.run(run_id)["message"] == "Paused as asked."
        ask(stage, run_id, "resume")
        stage.turn()
        assert (stage.run(run_id)["state"], stage.run(run_id)["attempt"]) == ("starting", 2)

    def test_one_that_does_not_listen_is_stopped_and_rests_all_the_same(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        ask(stage, run_id, "pause")

        stage.clock.advance(31)
        stage.turn()
        stage.turn()

        assert stage.cluster.stopped == [f"{run_id}-a1"]
        assert stage.run(run_id)["state"] == "paused"

    def test_one_that_nobody_can_stop_is_given_up_and_swept_away(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        stage.cluster.ignores_stops = True
        stage.cluster.node_ids_by_job[f"{run_id}-a1"] = "n1"
        ask(stage, run_id, "pause")
        stage.turn()

        stage.clock.advance(121)
        stage.turn()

        assert stage.run(run_id)["state"] == "paused"
        tidied = stage.cluster.job_requests[f"{run_id}-a1-cleanup"]
        assert tidied.command[:2] == ("tandem-worker", "cleanup")
        assert tidied.node_id == "n1"

    def test_one_that_succeeds_meanwhile_has_succeeded(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        ask(stage, run_id, "pause")

        deliver(stage, run_id, [outcome(stage, "succeeded")])
        stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
        stage.turn()

        assert stage.run(run_id)["state"] == "succeeded"

    def test_a_pause_that_is_taken_back_in_time_changes_nothing(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        ask(stage, run_id, "pause")

        ask(stage, run_id, "resume")
        stage.clock.advance(60)
        receipt = deliver(stage, run_id, [])
        stage.turn()

        assert receipt["stop"] is None
        assert stage.cluster.stopped == []
        assert stage.run(run_id)["state"] == "running"

    def test_a_paused_run_can_be_cancelled(self, stage: Stage) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=a_spec())["id"]
        ask(stage, run_id, "pause")

        assert ask(stage, run_id, "cancel")["state"] == "cancelled"

    @pytest.mark.parametrize("wish", ["pause", "resume"])
    def test_one_that_is_over_is_refused(self, stage: Stage, wish: str) -> None:
        run_id = a_failed_run(stage)

        response = stage.http.post(f"/v1/runs/{run_id}:{wish}")

        assert response.status_code == 409
        assert response.json()["code"] == "illegal_move"


class TestRetry:
    """A run that failed goes on when a person says so."""

    def test_it_is_queued_again_with_a_fresh_budget(self, stage: Stage) -> None:
        run_id = a_failed_run(stage)

        ask(stage, run_id, "retry")
        stage.turn()

        run = stage.run(run_id)
        assert (run["state"], run["attempt"], run["reason"]) == ("starting", 2, None)
        assert run["finished_at"] is None

    def test_one_that_did_not_fail_is_refused(self, stage: Stage) -> None:
        run_id = a_running_run(stage)

        assert stage.http.post(f"/v1/runs/{run_id}:retry").status_code == 409


class TestPriority:
    """Which run goes first."""

    def test_a_pressing_run_makes_a_smaller_one_leave_and_gets_its_room(self, stage: Stage) -> None:
        small = a_running_run(stage, resources={"num_cpus": 2})
        stage.clock.advance(60)
        deliver(stage, small, [progress(stage)])
        stage.cluster.cluster_nodes = (Node(2.0, 0.0, 0.0, 0.0, "n1"),)
        pressing = stage.launch(spec=a_spec(), priority=10)["id"]

        stage.turn()
        receipt = deliver(stage, small, [outcome(stage, "stopped")], first=1)
        assert receipt["stop"] == "preempt"
        assert small in stage.run(pressing)["waiting_for"]
        stage.cluster.set_job_state(f"{small}-a1", "failed", exit_code=50)
        stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)
        stage.turn()
        stage.turn()

        assert stage.run(pressing)["state"] == "starting"
        assert (stage.run(small)["state"], stage.run(small)["reason"]) == ("queued", "preempted")
        events = stage.http.get(f"/v1/runs/{small}/events").json()
        assert pressing in next(one["details"] for one in events if one["kind"] == "preempted")

    def test_a_run_that_waits_can_be_given_another_place(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.cluster.cluster_nodes = (Node(2.0, 0.0, 0.0, 0.0, "n1"),)
        first, second = (stage.launch(spec=a_spec())["id"] for _ in range(2))
        stage.turn()
        assert [stage.run(run)["queue_position"] for run in (first, second)] == [1, 2]

        stage.http.post(f"/v1/runs/{second}:prioritize", json={"priority": 3})
        stage.turn()

        assert [stage.run(run)["queue_position"] for run in (first, second)] == [2, 1]
        events = stage.http.get(f"/v1/runs/{second}/events").json()
        assert "From 0 to 3." in [event["details"] for event in events]

    def test_a_bad_end_is_followed_by_a_pause_and_says_so(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        said = outcome(stage, "failed").model_copy(
            update={"reason": FailureReason.TRACKER_UNAVAILABLE}
        )
        deliver(stage, run_id, [said])
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=20)

        stage.turn()
        stage.turn()

        assert stage.run(run_id)["state"] == "queued"
        assert "pause after tracker_unavailable" in stage.run(run_id)["waiting_for"]
        stage.clock.advance(31)
        stage.turn()
        assert stage.run(run_id)["state"] == "starting"


def test_a_node_learns_which_attempts_are_over_and_nothing_of_unknown_ones(stage: Stage) -> None:
    run_id = a_running_run(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
    stage.turn()
    stage.turn()
    asked = [f"{run_id}-a1", f"{run_id}-a2", "somebody-elses-a1"]

    answer = stage.http.post("/v1/attempts:over", json={"attempts": asked}).json()

    assert answer == {"over": [f"{run_id}-a1"]}


def ask(stage: Stage, run_id: str, wish: str) -> dict[str, Any]:
    response = stage.http.post(f"/v1/runs/{run_id}:{wish}")
    assert response.is_success, response.text
    return dict(response.json())


def a_failed_run(stage: Stage) -> str:
    run_id = a_running_run(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=1)
    stage.turn()
    return run_id
