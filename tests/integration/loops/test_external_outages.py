"""External systems that refuse a run, forget it or come back late."""

from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from configs.protocol.records import Record
from service.adapters.files import LocalFiles
from service.domain.errors.systems import JobRefused
from service.domain.ports import JobRequest
from service.store.leases import SqlLeaderLeases
from service.usecases.runs.logs import follow_logs
from tests.support.factories import make_spec
from tests.support.service.runs import (
    deliver,
    make_metrics,
    make_outcome,
    run_loop_step,
    submit_run,
    write_spool,
)
from tests.support.service.stage import Stage


class TestTracker:
    """MLflow is unreachable, or has lost a run."""

    def test_no_shipment_is_tried_while_it_is_away(self, stage: Stage) -> None:
        run_id = make_run_with_pending_records(stage)
        stage.tracker.is_reachable = False

        run_loop_step(stage, "reconcile")
        run_loop_step(stage, "tracker_sync")

        assert list(stage.cluster.job_requests) == [f"{run_id}-a1"]

    def test_a_shipment_that_failed_is_followed_by_another(self, stage: Stage) -> None:
        run_id = make_run_with_pending_records(stage)
        stage.run_loops()
        stage.cluster.set_job_state(f"{run_id}-a1-flush1", "failed", exit_code=20)

        stage.run_loops()

        assert f"{run_id}-a1-flush2" in stage.cluster.job_requests
        assert stage.tracker.statuses == {}

    def test_a_shipment_that_ray_cannot_describe_is_given_up_at_last(self, stage: Stage) -> None:
        run_id = make_run_with_pending_records(stage)
        stage.run_loops()
        stage.cluster.faulty_jobs.add(f"{run_id}-a1-flush1")

        stage.tracker_sync.run_once()
        jobs_after_a_fault = list(stage.cluster.job_requests)
        stage.clock.advance(stage.ctx.policy.lost_timeout_s + 1)
        stage.tracker_sync.run_once()
        stage.cluster.set_job_state(f"{run_id}-a1-flush2", "succeeded", exit_code=0)
        stage.tracker_sync.run_once()

        assert f"{run_id}-a1-flush2" not in jobs_after_a_fault
        assert stage.tracker.statuses == {"m1": "FINISHED"}

    def test_a_turn_acquires_its_lease_once(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        acquired = []
        acquire = SqlLeaderLeases.acquire

        def record(leases: SqlLeaderLeases, name: str, **lease: Any) -> bool:
            acquired.append(name)
            return acquire(leases, name, **lease)

        monkeypatch.setattr(SqlLeaderLeases, "acquire", record)

        stage.tracker_sync.run_once()

        assert acquired == ["tracker_sync"]

    def test_a_run_that_was_deleted_there_holds_up_no_other(self, stage: Stage) -> None:
        deleted, existing = submit_run(stage), submit_run(stage)
        for run_id in (deleted, existing):
            stage.tracker.runs[run_id] = f"m-{run_id}"
            stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=1)
        stage.tracker.deleted.add(f"m-{deleted}")

        run_loop_step(stage, "reconcile")
        run_loop_step(stage, "tracker_sync")

        assert stage.tracker.statuses == {f"m-{existing}": "FAILED"}
        with stage.ctx.store.transaction() as uow:
            assert uow.runs.not_synced() == []


class TestJobs:
    """Ray refuses a job, or the service stops it."""

    def test_why_a_job_is_refused_is_told_once(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(order: JobRequest) -> None:
            raise JobRefused(order.submission_id, "no agent")

        monkeypatch.setattr(stage.cluster, "submit", refuse)
        run_id = submit_run(stage)
        stage.run_loops()

        events = stage.http.get(f"/v1/runs/{run_id}/events").json()["items"]

        assert "no agent" in stage.run(run_id)["message"]
        assert [event["kind"] for event in events] == ["launched", "state_changed", "job_rejected"]

    def test_a_trainer_that_we_stopped_was_stalled_and_not_preempted(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        deliver(stage, run_id, [])
        stage.cluster.ignores_stops = True
        stage.clock.advance(301)
        stage.run_loops()

        outcome = make_outcome(stage, "failed").model_copy(
            update={"reason": FailureReason.PREEMPTED}
        )
        deliver(stage, run_id, [outcome])
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=20)
        stage.reconciler.run_once()

        assert stage.run(run_id)["reason"] == "stalled"


def test_pending_records_after_a_delivery_in_between_are_taken(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = submit_run(stage)
    outcome = make_outcome(stage, "failed").model_copy(update={"reason": FailureReason.NAN_LOSS})
    records: list[Record] = [make_metrics(stage, 1, loss=1.0), outcome]
    write_spool(stage, run_id, records)
    read = LocalFiles.spool_records

    def read_slowly(files: LocalFiles, which: str, position: int) -> list[Record]:
        chunk = read(files, which, position)
        if position == 0:
            deliver(stage, run_id, records[:1])
        return chunk

    monkeypatch.setattr(LocalFiles, "spool_records", read_slowly)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=10)
    stage.reconciler.run_once()

    assert stage.run(run_id)["reason"] == "nan_loss"


def test_following_a_log_that_does_not_grow_gives_the_thread_back(stage: Stage) -> None:
    run_id = submit_run(stage)

    texts = follow_logs(run_id, ctx=stage.ctx)

    assert [next(texts), next(texts)] == [None, None]


def test_a_name_that_no_shell_takes_is_refused(stage: Stage) -> None:
    stage.add_dataset()

    response = stage.http.post("/v1/runs", json={"spec": make_spec(), "name": "a\x00b"})

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "name"


def test_a_fault_of_the_whole_spec_reads_as_a_sentence(stage: Stage) -> None:
    response = stage.http.post(
        "/v1/runs", json={"spec": make_spec(distillation={"method": "bckd"})}
    )

    assert response.json()["detail"].startswith("distillation.method is bckd")


def make_run_with_pending_records(stage: Stage) -> str:
    run_id = submit_run(stage)
    write_spool(stage, run_id, [make_outcome(stage, "succeeded")])
    stage.tracker.runs[run_id] = "m1"
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    return run_id
