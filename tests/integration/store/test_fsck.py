"""Rows, Ray, MLflow and the disk that disagree: each fault is found, and repaired once."""

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from configs.protocol.names import RunFile
from configs.protocol.records import Record, Tracked
from service.domain.ports import Job
from service.domain.runs import Attempt
from service.store.database import Database
from service.usecases import fsck
from service.usecases.fsck import Fault, find_faults
from tests.support.factories import write_checkpoint
from tests.support.service.runs import deliver, make_metrics, make_outcome, submit_run, write_spool
from tests.support.service.stage import Stage


@pytest.fixture
def run_id(stage: Stage) -> str:
    """A successful run without any fault."""
    run_id = submit_run(stage)
    records: list[Record] = [
        Tracked(at=stage.clock.now(), attempt=1, mlflow_run_id="m1"),
        make_metrics(stage, 1, loss=2.0),
        make_outcome(stage, "succeeded"),
    ]
    write_spool(stage, run_id, records)
    deliver(stage, run_id, records)
    for file in (RunFile.LAST, RunFile.BEST):
        write_checkpoint(stage.home / "runs" / run_id / file)
    (stage.home / "runs" / run_id / "spool.mlflow.position").write_text("3")
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    stage.run_loops()
    return run_id


def faults(stage: Stage) -> list[Fault]:
    return list(find_faults(stage.ctx))


def repair_faults(stage: Stage) -> list[str]:
    """Repair all faults and check that they are gone; returns their kinds."""
    fixed = faults(stage)
    for fault in fixed:
        if fault.apply_repair is not None:
            fault.apply_repair()
    stage.run_loops()
    assert [fault.kind for fault in faults(stage)] == [
        fault.kind for fault in fixed if fault.apply_repair is None
    ]
    return [fault.kind for fault in fixed]


def test_where_everything_agrees_there_is_no_fault(stage: Stage, run_id: str) -> None:
    assert faults(stage) == []


def test_metric_values_that_the_database_lost_come_back_from_the_spool(
    stage: Stage, run_id: str
) -> None:
    stage.execute_sql("DELETE FROM metric_points")

    assert repair_faults(stage) == ["points"]

    points = stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"]
    assert [(point["step"], point["value"]) for point in points] == [(1, 2.0)]


def test_records_that_were_never_taken_are_taken(stage: Stage, run_id: str) -> None:
    with (stage.home / "runs" / run_id / RunFile.SPOOL).open("a") as spool:
        spool.write(make_metrics(stage, 2, loss=1.0).model_dump_json() + "\n")

    assert repair_faults(stage) == ["spool_left"]


def test_a_spool_that_lost_its_records_is_told(stage: Stage, run_id: str) -> None:
    (stage.home / "runs" / run_id / RunFile.SPOOL).unlink()

    assert repair_faults(stage) == ["spool_short"]


def test_a_checkpoint_that_is_gone_is_told(stage: Stage, run_id: str) -> None:
    (stage.home / "runs" / run_id / RunFile.BEST).unlink()

    (fault,) = faults(stage)

    assert (fault.kind, fault.subject) == ("checkpoint", run_id)
    assert RunFile.BEST in fault.message


def test_an_attempt_without_an_end_is_closed(stage: Stage, run_id: str) -> None:
    with stage.ctx.store.transaction() as uow:
        attempt = uow.attempts.get(run_id, 1)
        assert isinstance(attempt, Attempt)
        uow.attempts.save(replace(attempt, ended_at=None))

    assert repair_faults(stage) == ["attempt_open"]


def test_a_state_that_no_event_tells_of_gets_one(stage: Stage, run_id: str) -> None:
    stage.execute_sql("DELETE FROM events WHERE to_state = 'succeeded'")

    assert repair_faults(stage) == ["state"]


def test_a_job_that_outlived_its_attempt_is_stopped(stage: Stage, run_id: str) -> None:
    stage.cluster.jobs_by_id[f"{run_id}-a1"] = Job("running")
    stage.cluster.jobs_by_id["somebody-elses"] = Job("running")

    assert repair_faults(stage) == ["orphan"]

    assert stage.cluster.stopped == [f"{run_id}-a1"]


def test_mlflow_is_told_again_what_it_shows_wrongly(stage: Stage, run_id: str) -> None:
    stage.tracker.statuses["m1"] = "RUNNING"

    assert repair_faults(stage) == ["mlflow_status"]

    assert stage.tracker.statuses["m1"] == "FINISHED"


def test_a_run_that_was_deleted_in_mlflow_is_told(stage: Stage, run_id: str) -> None:
    stage.tracker.deleted.add("m1")

    assert repair_faults(stage) == ["mlflow_run"]


def test_files_that_changed_or_went_are_told(stage: Stage, run_id: str) -> None:
    stage.add_teacher()
    shutil.rmtree(stage.home / "datasets" / "pets")
    (stage.home / "teachers" / "big.pth").write_bytes(b"others")

    assert [(fault.kind, fault.subject) for fault in faults(stage)] == [
        ("dataset", "pets"),
        ("teacher", "big"),
    ]


def test_what_does_not_answer_is_a_fault_once(stage: Stage, run_id: str) -> None:
    stage.cluster.is_reachable = stage.tracker.is_reachable = False

    ray, mlflow = faults(stage)

    assert (ray.kind, mlflow.kind) == ("ray", "mlflow")
    assert "not all runs were compared with Ray. `tandem status` shows what runs" in ray.message
    assert "not all runs were compared with MLflow. `tandem status`" in mlflow.message


def test_a_run_that_goes_on_is_no_fault(stage: Stage) -> None:
    run_id = submit_run(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "running")
    stage.clock.advance(timedelta(hours=1).total_seconds())

    assert faults(stage) == []


def test_a_baseline_and_a_report_that_are_gone_are_forgotten(stage: Stage, run_id: str) -> None:
    stage.execute_sql("UPDATE runs SET baseline_run_id = 'rgone', report_run_id = 'rgone'")

    fixed = repair_faults(stage)

    assert fixed == ["baseline", "report"]
    view = stage.run(run_id)
    assert (view["baseline_run_id"], view["report_run_id"]) == (None, None)


def test_it_reads_page_by_page(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsck, "_PAGE_SIZE", 2)
    run_ids = {submit_run(stage) for _ in range(5)}
    stage.execute_sql("UPDATE runs SET baseline_run_id = 'rgone'")
    stage.execute_sql("UPDATE runs SET state = 'paused'")

    reported = faults(stage)

    assert {fault.subject for fault in reported if fault.kind == "state"} == run_ids
    assert {fault.subject for fault in reported if fault.kind == "baseline"} == run_ids
    assert max(len(page.runs) for page in fsck._read_pages(stage.ctx)) == 2


def test_it_looks_while_another_process_writes(stage: Stage, run_id: str) -> None:
    store = stage.ctx.store
    assert isinstance(store, Database)
    other = store.clone()
    with other.transaction() as uow:
        uow.leader_leases.release("nobody")
        assert faults(stage) == []
    other.close()


def test_a_job_that_ends_meanwhile_is_no_orphan(stage: Stage, run_id: str) -> None:
    stage.cluster.jobs_by_id[f"{run_id}-a1"] = Job("running")
    looking = find_faults(stage.ctx)
    listed = stage.cluster.jobs()
    stage.cluster.jobs_by_id[f"{run_id}-a1"] = Job("succeeded")
    stage.cluster.jobs = lambda: listed  # type: ignore[method-assign]

    assert list(looking) == []
