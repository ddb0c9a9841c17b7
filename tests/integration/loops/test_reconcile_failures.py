"""The reconcile loop: silent runs, failed attempts, one broken run among others, capacity."""

import json

from configs.protocol.names import RunFile
from service.domain.ports import Node
from service.loops.reconcile import Reconciler
from tests.support.factories import make_bckd_spec, make_spec, write_checkpoint
from tests.support.service.runs import (
    deliver_raw,
    make_metrics,
    make_outcome,
    make_started,
    start_running_run,
    submit_run,
    write_spool,
)
from tests.support.service.stage import Stage


class TestHeartbeats:
    """When runs without heartbeats count as lost or stalled."""

    def test_after_an_outage_of_ours_a_worker_gets_its_time_to_report(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.clock.advance(10_000)

        stage.restart()
        stage.run_loops()

        assert stage.run(run_id)["state"] == "running"
        assert stage.cluster.stopped == []

    def test_after_a_pause_between_two_turns_silence_counts_anew(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.reconciler = Reconciler(stage.ctx)
        stage.clock.advance(10_000)

        stage.run_loops()

        assert stage.run(run_id)["state"] == "running"
        assert stage.cluster.stopped == []

    def test_a_worker_that_only_reaches_the_disk_is_not_silent(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.clock.advance(301)
        write_spool(stage, run_id, [make_metrics(stage, 1, loss=1.0)])

        stage.run_loops()

        assert stage.cluster.stopped == []
        assert stage.run(run_id)["latest"] == {"train/loss": 1.0}

    def test_a_head_that_shows_a_dead_job_as_running_is_asked_for_its_logs(
        self, stage: Stage
    ) -> None:
        run_id = start_running_run(stage)
        stage.clock.advance(100)

        stage.run_loops()
        stage.run_loops()

        assert stage.cluster.requested_logs == [f"{run_id}-a1"]

    def test_a_job_that_cannot_be_stopped_is_given_up_on(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.cluster.ignores_stops = True
        stage.clock.advance(301)
        stage.run_loops()
        assert stage.run(run_id)["state"] == "running"

        stage.clock.advance(121)
        stage.run_loops()

        assert stage.run(run_id)["reason"] == "stalled"
        assert stage.run(run_id)["state"] == "queued"

    def test_a_job_that_is_never_taken_ends_as_lost(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        stage.cluster.forget_jobs()
        stage.clock.advance(91)

        stage.run_loops()

        assert stage.run(run_id)["reason"] == "node_lost"


class TestAttempts:
    """Attempts of a run, one after the other."""

    def test_a_process_whose_attempt_was_given_up_is_refused_at_once(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
        stage.reconciler.run_once()
        assert stage.run(run_id)["state"] == "queued"

        response = deliver_raw(stage, run_id, [])

        assert response.status_code == 409
        assert response.json()["code"] == "attempt_superseded"

    def test_a_heartbeat_after_a_gap_is_a_sign_of_life_too(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.clock.advance(60)

        deliver_raw(stage, run_id, [make_metrics(stage, 9, loss=1.0)], first=7)

        last_seen_at = stage.run(run_id)["last_seen_at"]
        assert last_seen_at == stage.clock.now().isoformat().replace("+00:00", "Z")

    def test_each_says_where_it_ran_and_how_it_ended(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        deliver_raw(stage, run_id, [make_started(stage, host="node-7")])
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
        stage.run_loops()
        stage.run_loops()

        first, second = stage.http.get(f"/v1/runs/{run_id}/attempts").json()["items"]

        assert first["host"] == "node-7"
        assert (first["exit_code"], first["reason"]) == (-9, "node_lost")
        assert first["ended_at"]
        assert second["submission_id"] == f"{run_id}-a2"
        assert second["ended_at"] is None

    def test_a_later_one_goes_on_with_the_files_of_the_first(self, stage: Stage) -> None:
        stage.add_teacher()
        run_id = start_running_run(stage, make_bckd_spec())
        spec_file = stage.home / "runs" / run_id / RunFile.SPEC
        before = spec_file.read_text()
        replace_teacher(stage)
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)

        stage.run_loops()
        stage.run_loops()

        assert stage.run(run_id)["attempt"] == 2
        assert spec_file.read_text() == before

    def test_a_teacher_run_is_handed_over_with_the_hash_of_its_checkpoint(
        self, stage: Stage
    ) -> None:
        teacher = start_running_run(stage)
        checkpoint = write_checkpoint(stage.home / "runs" / teacher / RunFile.BEST)
        student = stage.launch(spec=make_bckd_spec(teacher={"run": teacher}))["id"]
        deliver_raw(stage, teacher, [make_outcome(stage, "succeeded")])
        stage.cluster.set_job_state(f"{teacher}-a1", "succeeded", exit_code=0)

        stage.run_loops()
        stage.run_loops()

        spec = json.loads((stage.home / "runs" / student / RunFile.SPEC).read_text())
        assert spec["teacher"]["checkpoint"] == str(checkpoint)
        assert spec["teacher"]["sha256"] == stage.ctx.files.sha256(checkpoint)


class TestOneBadRun:
    """It does not affect other runs."""

    def test_a_spool_that_cannot_be_read_ends_its_run_only(self, stage: Stage) -> None:
        broken_run_id, other_run_id = start_running_run(stage), start_running_run(stage)
        spool = stage.home / "runs" / broken_run_id / RunFile.SPOOL
        spool.write_bytes(b"\xff not a record\n")
        for run_id in (broken_run_id, other_run_id):
            stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=1)

        stage.run_loops()

        assert [stage.run(run_id)["state"] for run_id in (broken_run_id, other_run_id)] == [
            "failed",
            "failed",
        ]

    def test_a_position_that_is_no_number_holds_up_nothing(self, stage: Stage) -> None:
        broken_run_id, other_run_id = start_running_run(stage), start_running_run(stage)
        (stage.home / "runs" / broken_run_id / "spool.mlflow.position").write_text("?")
        for run_id in (broken_run_id, other_run_id):
            stage.tracker.runs[run_id] = f"m-{run_id}"
            stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=1)

        stage.run_loops()

        assert stage.tracker.statuses == {
            f"m-{run_id}": "FAILED" for run_id in (broken_run_id, other_run_id)
        }


class TestFaultyJobs:
    """Jobs about which Ray answers with an error."""

    def test_one_keeps_no_other_run_from_ending(self, stage: Stage) -> None:
        faulty, other = start_running_run(stage), start_running_run(stage)
        stage.cluster.faulty_jobs = {f"{faulty}-a1"}
        stage.cluster.set_job_state(f"{other}-a1", "failed", exit_code=1)

        stage.run_loops()

        assert [stage.run(run_id)["state"] for run_id in (faulty, other)] == ["running", "failed"]

    def test_one_whose_worker_reports_goes_on(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.cluster.faulty_jobs = {f"{run_id}-a1"}
        for _ in range(4):
            stage.clock.advance(60)
            deliver_raw(stage, run_id, [])
            stage.run_loops()

        assert stage.run(run_id)["state"] == "running"

    def test_one_whose_worker_is_silent_is_lost(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.cluster.faulty_jobs = {f"{run_id}-a1"}
        stage.clock.advance(91)

        stage.run_loops()

        assert stage.run(run_id)["reason"] == "node_lost"


class TestCapacity:
    """Ray updates its resources late, so the service counts jobs itself."""

    def test_what_was_started_a_moment_ago_is_not_free(self, stage: Stage) -> None:
        start_running_run(stage, resources={"num_cpus": 2})
        waiting = stage.launch(spec=make_spec(resources={"num_cpus": 1}))["id"]

        stage.run_loops()

        assert "to become free" in stage.run(waiting)["waiting_for"]

    def test_once_ray_has_counted_its_word_is_taken(self, stage: Stage) -> None:
        start_running_run(stage, resources={"num_cpus": 2})
        waiting = stage.launch(spec=make_spec(resources={"num_cpus": 1}))["id"]
        stage.cluster.cluster_nodes = (Node(4.0, 0.0, 2.0, 0.0),)
        stage.clock.advance(7)

        stage.run_loops()

        assert stage.run(waiting)["state"] == "starting"


def replace_teacher(stage: Stage) -> None:
    teacher = stage.http.get("/v1/teachers/big").json()
    body = {key: teacher[key] for key in ("name", "checkpoint", "detector", "classes")}
    (stage.home / "teachers" / "big.pth").write_bytes(b"other weights")
    assert stage.http.post("/v1/teachers", json=body | {"replace": True}).is_success
