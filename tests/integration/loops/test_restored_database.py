"""A database that was restored from an older backup, beside Ray's jobs and logs since then."""

from pathlib import Path

import pytest

from configs.protocol.names import RunFile, attempt_log_path
from configs.protocol.records import Note
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.runs import make_outcome, write_spool
from tests.support.service.simulated_sweep import start_search
from tests.support.service.stage import Stage, open_stage


@pytest.fixture
def queued_id(stage: Stage) -> str:
    """A run that was queued when the backup was made."""
    stage.add_dataset()
    return str(stage.launch(spec=make_spec())["id"])


def test_a_job_that_ray_knows_is_not_taken_for_the_next_attempt(
    stage: Stage, queued_id: str
) -> None:
    stage.cluster.set_job_state(f"{queued_id}-a1", "succeeded", exit_code=0)
    stage.cluster.set_job_state(f"{queued_id}-a2", "succeeded", exit_code=0)

    stage.run_loops()

    run = stage.run(queued_id)
    assert (run["state"], run["attempt"]) == ("starting", 3)
    assert list(stage.cluster.job_requests) == [f"{queued_id}-a3"]
    attempts = stage.http.get(f"/v1/runs/{queued_id}/attempts").json()["items"]
    assert [attempt["number"] for attempt in attempts] == [1, 2, 3]
    assert [attempt["ended_at"] is None for attempt in attempts] == [False, False, True]
    assert "the database is older" in attempts[0]["message"]


def test_a_log_of_later_attempts_is_kept_and_the_new_one_too(stage: Stage, queued_id: str) -> None:
    stage.ctx.logs.append(queued_id, 2, offset=0, content=b"before the restore\n")

    stage.run_loops()
    path = f"/v1/runs/{queued_id}/attempts/3/log"
    response = stage.http.post(path, content=b"after it\n")

    assert response.json() == {"next": 9}
    log = stage.http.get(f"/v1/runs/{queued_id}/logs").text
    assert log == "before the restore\nafter it\n"


def test_a_log_in_the_folder_of_the_run_counts(stage: Stage, queued_id: str) -> None:
    file = stage.home / "runs" / queued_id / attempt_log_path(4)
    file.parent.mkdir(parents=True)
    file.write_text("x")

    stage.run_loops()

    assert stage.run(queued_id)["attempt"] == 5


@pytest.mark.parametrize("name", ["logs", attempt_log_path(4)])
def test_a_link_is_no_log(stage: Stage, queued_id: str, name: str) -> None:
    elsewhere = stage.home / "elsewhere"
    file = elsewhere / Path(attempt_log_path(4)).name
    elsewhere.mkdir()
    file.write_text("x")
    link = stage.home / "runs" / queued_id / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere if name == "logs" else file)

    stage.run_loops()

    assert stage.run(queued_id)["attempt"] == 1


def test_records_of_later_attempts_count_and_end_no_attempt(stage: Stage, queued_id: str) -> None:
    (stage.home / "runs" / queued_id).mkdir(parents=True)
    at = stage.clock.now()
    outcome = make_outcome(stage, "succeeded").model_copy(update={"attempt": 2})
    write_spool(stage, queued_id, [Note(at=at, attempt=1, text="a"), outcome])

    for _ in range(3):
        stage.run_loops()

    run = stage.run(queued_id)
    assert (run["attempt"], run["state"]) == (3, "starting")


@pytest.mark.parametrize("number", [34, 999_999])
def test_a_number_that_a_worker_invents_is_ignored(
    stage: Stage, queued_id: str, number: int
) -> None:
    file = stage.home / "runs" / queued_id / attempt_log_path(number)
    file.parent.mkdir(parents=True)
    file.write_text("x")
    note = Note(at=stage.clock.now(), attempt=number, text="a")
    write_spool(stage, queued_id, [note])

    stage.run_loops()

    assert stage.run(queued_id)["attempt"] == 1


def test_the_runs_of_a_pack_have_new_numbers(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    run = stage.launch(spec=make_bckd_spec(), pack=True)
    stage.ctx.logs.append(run["baseline_run_id"], 1, offset=0, content=b"x")

    stage.run_loops()

    assert stage.run(run["id"])["attempt"] == 1
    assert stage.run(run["baseline_run_id"])["attempt"] == 2


def test_a_driver_that_ray_knows_is_not_taken_for_the_next_one(stage: Stage) -> None:
    sweep = start_search(stage)
    stage.cluster.set_job_state(f"{sweep.id}-d1", "failed", exit_code=1)
    stage.cluster.set_job_state(f"{sweep.id}-d2", "succeeded", exit_code=0)

    stage.run_loops()
    stage.clock.advance(3600)
    stage.run_loops()

    assert f"{sweep.id}-d3" in stage.cluster.job_requests


def test_a_cluster_that_does_not_answer_delays_the_attempt(stage: Stage, queued_id: str) -> None:
    stage.cluster.is_reachable = False
    with pytest.raises(Exception, match="unreachable"):
        stage.run_loops()
    stage.cluster.is_reachable = True

    stage.run_loops()

    assert stage.run(queued_id)["attempt"] == 1


def test_the_whole_way_from_backup_to_the_next_attempt(tmp_path: Path) -> None:
    file = tmp_path / "tandem.db"
    with open_stage(tmp_path) as stage:
        stage.add_dataset()
        run_id = str(stage.launch(spec=make_spec())["id"])
        stage.ctx.store.migrate()
        stage.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        backup = file.read_bytes()
        stage.run_loops()
        stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
        jobs = stage.cluster.jobs_by_id
        stage.ctx.logs.append(run_id, 1, offset=0, content=b"first\n")
    for name in ("tandem.db", "tandem.db-wal", "tandem.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    file.write_bytes(backup)

    with open_stage(tmp_path) as stage:
        stage.cluster.jobs_by_id.update(jobs)
        for _ in range(3):
            stage.run_loops()

        assert stage.run(run_id)["state"] == "starting"
        assert list(stage.cluster.job_requests) == [f"{run_id}-a2"]
        assert (stage.home / "runs" / run_id / RunFile.SPEC).is_file()
