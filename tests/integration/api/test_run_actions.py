"""Actions on runs over the API: pause, resume, retry, priority."""

from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from service.domain.ports import Node
from tests.support.factories import make_spec
from tests.support.service.runs import deliver, make_outcome, make_progress, start_running_run
from tests.support.service.stage import Stage


class TestPause:
    """The attempt stops with a checkpoint; no other starts until the run is resumed."""

    def test_a_queued_run_stays_paused_until_it_is_resumed(self, stage: Stage) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=make_spec())["id"]

        run_action(stage, run_id, "pause")
        stage.run_loops()
        assert stage.run(run_id)["state"] == "paused"
        assert stage.cluster.job_requests == {}
        run_action(stage, run_id, "resume")
        stage.run_loops()

        assert stage.run(run_id)["state"] == "starting"

    def test_a_running_run_is_stopped_and_resumed(self, stage: Stage) -> None:
        run_id = start_running_run(stage)

        run_action(stage, run_id, "pause")
        receipt = deliver(stage, run_id, [make_outcome(stage, "stopped")])
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=50)
        stage.run_loops()

        assert receipt["stop"] == "pause"
        assert stage.run(run_id)["state"] == "paused"
        assert stage.run(run_id)["message"] == "Paused as requested."
        run_action(stage, run_id, "resume")
        stage.run_loops()
        assert (stage.run(run_id)["state"], stage.run(run_id)["attempt"]) == ("starting", 2)

    def test_an_unresponsive_worker_is_stopped_and_the_run_is_paused(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        run_action(stage, run_id, "pause")

        stage.clock.advance(31)
        stage.run_loops()
        stage.run_loops()

        assert stage.cluster.stopped == [f"{run_id}-a1"]
        assert stage.run(run_id)["state"] == "paused"

    def test_an_attempt_that_cannot_be_stopped_is_abandoned_and_cleaned_up(
        self, stage: Stage
    ) -> None:
        run_id = start_running_run(stage)
        stage.cluster.ignores_stops = True
        stage.cluster.node_ids_by_job[f"{run_id}-a1"] = "n1"
        run_action(stage, run_id, "pause")
        stage.run_loops()

        stage.clock.advance(121)
        stage.run_loops()

        assert stage.run(run_id)["state"] == "paused"
        cleanup = stage.cluster.job_requests[f"{run_id}-a1-cleanup"]
        assert cleanup.command[:2] == ("tandem-worker", "cleanup")
        assert cleanup.node_id == "n1"

    def test_one_that_succeeds_meanwhile_has_succeeded(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        run_action(stage, run_id, "pause")

        deliver(stage, run_id, [make_outcome(stage, "succeeded")])
        stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
        stage.run_loops()

        assert stage.run(run_id)["state"] == "succeeded"

    def test_a_pause_that_is_taken_back_in_time_changes_nothing(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        run_action(stage, run_id, "pause")

        run_action(stage, run_id, "resume")
        stage.clock.advance(60)
        receipt = deliver(stage, run_id, [])
        stage.run_loops()

        assert receipt["stop"] is None
        assert stage.cluster.stopped == []
        assert stage.run(run_id)["state"] == "running"

    def test_a_paused_run_can_be_cancelled(self, stage: Stage) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=make_spec())["id"]
        run_action(stage, run_id, "pause")

        assert run_action(stage, run_id, "cancel")["state"] == "cancelled"

    @pytest.mark.parametrize("action", ["pause", "resume"])
    def test_one_that_is_over_is_refused(self, stage: Stage, action: str) -> None:
        run_id = fail_run(stage)

        response = stage.http.post(f"/v1/runs/{run_id}:{action}")

        assert response.status_code == 409
        assert response.json()["code"] == "invalid_transition"


class TestRetry:
    """A failed run is queued again on request."""

    def test_it_is_queued_again_with_fresh_attempts(self, stage: Stage) -> None:
        run_id = fail_run(stage)

        run_action(stage, run_id, "retry")
        stage.run_loops()

        run = stage.run(run_id)
        assert (run["state"], run["attempt"], run["reason"]) == ("starting", 2, None)
        assert run["finished_at"] is None

    def test_one_that_did_not_fail_is_refused(self, stage: Stage) -> None:
        run_id = start_running_run(stage)

        assert stage.http.post(f"/v1/runs/{run_id}:retry").status_code == 409


class TestPriority:
    """Priorities and preemption."""

    def test_a_run_of_higher_priority_preempts_a_smaller_one(self, stage: Stage) -> None:
        small = start_running_run(stage, resources={"num_cpus": 2})
        stage.clock.advance(60)
        deliver(stage, small, [make_progress(stage)])
        stage.cluster.cluster_nodes = (Node(2.0, 0.0, 0.0, 0.0, "n1"),)
        pressing = stage.launch(spec=make_spec(), priority=10)["id"]

        stage.run_loops()
        receipt = deliver(stage, small, [make_outcome(stage, "stopped")], first=1)
        assert receipt["stop"] == "preempt"
        assert small in stage.run(pressing)["waiting_for"]
        stage.cluster.set_job_state(f"{small}-a1", "failed", exit_code=50)
        stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)
        stage.run_loops()
        stage.run_loops()

        assert stage.run(pressing)["state"] == "starting"
        assert (stage.run(small)["state"], stage.run(small)["reason"]) == ("queued", "preempted")
        events = stage.http.get(f"/v1/runs/{small}/events").json()["items"]
        assert pressing in next(
            event["details"] for event in events if event["kind"] == "preempted"
        )

    def test_a_waiting_run_can_be_prioritized(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.cluster.cluster_nodes = (Node(2.0, 0.0, 0.0, 0.0, "n1"),)
        first, second = (stage.launch(spec=make_spec())["id"] for _ in range(2))
        stage.run_loops()
        assert [stage.run(run)["queue_position"] for run in (first, second)] == [1, 2]

        stage.http.post(f"/v1/runs/{second}:prioritize", json={"priority": 3})
        stage.run_loops()

        assert [stage.run(run)["queue_position"] for run in (first, second)] == [2, 1]
        events = stage.http.get(f"/v1/runs/{second}/events").json()["items"]
        assert "Priority changed from 0 to 3." in [event["details"] for event in events]

    def test_a_bad_end_is_followed_by_a_pause_and_says_so(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        failed = make_outcome(stage, "failed").model_copy(
            update={"reason": FailureReason.TRACKER_UNAVAILABLE}
        )
        deliver(stage, run_id, [failed])
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=20)

        stage.run_loops()
        stage.run_loops()

        assert stage.run(run_id)["state"] == "queued"
        assert "retry delay after tracker_unavailable" in stage.run(run_id)["waiting_for"]
        stage.clock.advance(31)
        stage.run_loops()
        assert stage.run(run_id)["state"] == "starting"


def test_a_node_learns_which_of_its_attempts_are_finished(stage: Stage) -> None:
    run_id = start_running_run(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
    stage.run_loops()
    stage.run_loops()
    attempts = [f"{run_id}-a1", f"{run_id}-a2", "somebody-elses-a1"]

    response = stage.http.post("/v1/attempts:over", json={"attempts": attempts}).json()

    assert response == {"finished": [f"{run_id}-a1"]}


def run_action(stage: Stage, run_id: str, action: str) -> dict[str, Any]:
    response = stage.http.post(f"/v1/runs/{run_id}:{action}")
    assert response.is_success, response.text
    return dict(response.json())


def fail_run(stage: Stage) -> str:
    run_id = start_running_run(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=1)
    stage.run_loops()
    return run_id
