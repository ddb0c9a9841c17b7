"""Packs in the service: one job for several runs, each with its own state."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from configs.protocol.pack import PackJob
from configs.protocol.records import Outcome
from service.domain.ports import JobRequest, Node
from service.domain.scheduling.packs import MIN_MERGE_AGE_S, PACK_FILL_TIMEOUT_S
from tests.support.factories import make_bckd_spec
from tests.support.service.simulated_worker import SimulatedWorker
from tests.support.service.stage import Stage


@pytest.fixture
def members(stage: Stage) -> list[str]:
    """Three queued runs that may train in one pack."""
    stage.add_dataset()
    stage.add_teacher()
    return queue_runs(stage, 3)


def queue_runs(stage: Stage, count: int, *, pack_size: int = 3, **changes: Any) -> list[str]:
    ids = []
    for number in range(count):
        distillation = {"method": "bckd", "cls_weight": number + 1}
        spec = make_bckd_spec(distillation=distillation) | changes
        ids.append(stage.launch(spec=spec, baseline="off")["id"])
    with stage.ctx.store.transaction() as uow:
        for run_id in ids:
            run = uow.runs.get_for_update(run_id)
            uow.runs.save(replace(run, pack=replace(run.pack, size=pack_size)))
    return ids


def find_pack(stage: Stage) -> tuple[str, JobRequest]:
    """Find the newest job of a pack."""
    packs = [
        (job, request) for job, request in stage.cluster.job_requests.items() if job.startswith("p")
    ]
    return packs[-1]


def parse_pack_job(request: JobRequest) -> PackJob:
    return PackJob.model_validate_json(Path(request.command[-1]).read_text())


def make_workers(stage: Stage, runs: list[str], *, attempt: int = 1) -> dict[str, SimulatedWorker]:
    return {run: SimulatedWorker(stage, run, attempt) for run in runs}


def list_states(stage: Stage, runs: list[str]) -> list[str]:
    return [stage.run(run)["state"] for run in runs]


def test_runs_start_as_one_job_that_takes_the_capacity_of_one(
    stage: Stage, members: list[str]
) -> None:
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)
    (other,) = queue_runs(stage, 1, pack_size=1, seed=5)

    stage.run_loops()

    job, request = find_pack(stage)
    pack_job = parse_pack_job(request)
    assert [member.run_id for member in pack_job.members] == members
    assert (request.num_cpus, pack_job.id) == (1, job)
    assert list_states(stage, [*members, other]) == ["starting"] * 4
    assert len(stage.cluster.job_requests) == 2


def test_each_member_ends_when_it_has_had_its_last_word_and_the_rest_go_on(
    stage: Stage, members: list[str]
) -> None:
    stage.run_loops()
    job, _ = find_pack(stage)
    stage.cluster.set_job_state(job, "running")
    by_run = make_workers(stage, members)
    first = by_run[members[0]]
    while not first.has_stopped:
        first.train()
    for worker in by_run.values():
        worker.deliver()
    mark_all_shipped(stage, members[0])

    stage.run_loops()

    assert list_states(stage, members) == ["succeeded", "running", "running"]
    assert stage.cluster.stopped == []
    assert not any(name.endswith("-cleanup") for name in stage.cluster.job_requests)


def test_one_that_is_cancelled_leaves_and_no_other_is_stopped(
    stage: Stage, members: list[str]
) -> None:
    stage.run_loops()
    job, _ = find_pack(stage)
    stage.cluster.set_job_state(job, "running")
    by_run = make_workers(stage, members)
    stage.http.post(f"/v1/runs/{members[1]}:cancel")
    for worker in by_run.values():
        worker.train()
        worker.deliver()
        worker.train()
        worker.deliver()
    mark_all_shipped(stage, members[1])

    for _ in range(3):
        stage.clock.advance(20)
        for run in (members[0], members[2]):
            by_run[run].train()
            by_run[run].deliver()
        stage.run_loops()

    assert list_states(stage, members) == ["running", "cancelled", "running"]
    assert stage.cluster.stopped == []


def test_a_pack_that_is_killed_comes_back_as_a_pack(stage: Stage, members: list[str]) -> None:
    stage.run_loops()
    job, _ = find_pack(stage)
    stage.cluster.set_job_state(job, "running")
    stage.cluster.node_ids_by_job[job] = "n1"
    for worker in make_workers(stage, members).values():
        worker.train()
        worker.deliver()
    stage.run_loops()
    stage.cluster.set_job_state(job, "failed", exit_code=-9)

    stage.run_loops()
    stage.clock.advance(2 * PACK_FILL_TIMEOUT_S)
    stage.run_loops()

    restarted_pack_id, request = find_pack(stage)
    pack_job = parse_pack_job(request)
    assert restarted_pack_id != job
    assert sum(name.endswith("-cleanup") for name in stage.cluster.job_requests) == 1
    assert {member.attempt for member in pack_job.members} == {2}
    assert list_states(stage, members) == ["starting"] * 3


def test_survivors_of_two_packs_become_one(stage: Stage) -> None:
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)
    stage.add_dataset()
    stage.add_teacher()
    runs = queue_runs(stage, 4, pack_size=2)
    stage.run_loops()
    jobs = [job for job in stage.cluster.job_requests if job.startswith("p")]
    assert len(jobs) == 2
    for run in (runs[0], runs[2]):
        stage.http.post(f"/v1/runs/{run}:cancel")
    for job in jobs:
        stage.cluster.set_job_state(job, "failed", exit_code=-9)

    stage.run_loops()
    stage.clock.advance(2 * PACK_FILL_TIMEOUT_S)
    stage.run_loops()

    _, request = find_pack(stage)
    pack_job = parse_pack_job(request)
    assert [member.run_id for member in pack_job.members] == [runs[1], runs[3]]
    assert list_states(stage, runs) == ["cancelled", "starting", "cancelled", "starting"]


def test_two_packs_that_have_shrunk_free_capacity_by_merging(stage: Stage) -> None:
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)
    stage.add_dataset()
    stage.add_teacher()
    runs = queue_runs(stage, 4, pack_size=2)
    stage.run_loops()
    for job in list(stage.cluster.job_requests):
        stage.cluster.set_job_state(job, "running")
    survivors = {run: SimulatedWorker(stage, run, 1) for run in (runs[0], runs[2])}
    for run in (runs[1], runs[3]):
        stage.http.post(f"/v1/runs/{run}:cancel")
        worker = SimulatedWorker(stage, run, 1)
        for _ in range(2):
            worker.train()
            worker.deliver()
        mark_all_shipped(stage, run)
    for worker in survivors.values():
        worker.train()
        worker._append_record(worker._progress().model_copy(update={"eta_s": 7200.0}))
        worker.deliver()
    stage.run_loops()
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 0.0, 0.0, "n1"),)
    (waits,) = queue_runs(stage, 1, pack_size=1, seed=5)
    stage.clock.advance(MIN_MERGE_AGE_S)
    for worker in survivors.values():
        worker._append_record(worker._progress().model_copy(update={"eta_s": 7200.0}))
        worker.deliver()
    stage.run_loops()

    for worker in survivors.values():
        worker.deliver()
        worker.train()
        worker.deliver()
    for job in [job for job in stage.cluster.job_requests if job.startswith("p")]:
        stage.cluster.set_job_state(job, "failed", exit_code=20)
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)
    stage.run_loops()
    stage.clock.advance(2 * PACK_FILL_TIMEOUT_S)
    stage.run_loops()

    _, request = find_pack(stage)
    assert [member.run_id for member in parse_pack_job(request).members] == [runs[0], runs[2]]
    assert list_states(stage, [runs[0], runs[2], waits]) == ["starting"] * 3
    kinds = [event["details"] for event in list_events(stage, runs[0])]
    assert any("Resumes in a merged pack" in details for details in kinds)


def test_a_service_that_died_before_it_submitted_submits_the_same_pack(
    stage: Stage, members: list[str]
) -> None:
    stage.run_loops()
    job, request = find_pack(stage)
    stage.cluster.forget_jobs()
    stage.cluster.job_requests.clear()

    stage.run_loops()

    assert stage.cluster.job_requests[job].command == request.command


def test_a_pack_is_over_for_its_node_when_all_of_its_members_are(
    stage: Stage, members: list[str]
) -> None:
    stage.run_loops()
    job, _ = find_pack(stage)
    stage.cluster.set_job_state(job, "running")

    def list_finished() -> list[str]:
        body = {"attempts": [job, "pnobody"]}
        return list(stage.http.post("/v1/attempts:over", json=body).json()["finished"])

    before = list_finished()
    stage.cluster.set_job_state(job, "failed", exit_code=-9)
    stage.run_loops()

    assert before == []
    assert list_finished() == [job]


def test_a_member_without_memory_in_a_pack_trains_without_others_next_time(
    stage: Stage, members: list[str]
) -> None:
    stage.run_loops()
    job, _ = find_pack(stage)
    stage.cluster.set_job_state(job, "running")
    worker = SimulatedWorker(stage, members[0], 1)
    reason = FailureReason.PACK_OUT_OF_MEMORY
    worker._append_record(
        Outcome(at=stage.clock.now(), attempt=1, result="failed", reason=reason, message="full")
    )
    worker.deliver()
    mark_all_shipped(stage, members[0])

    stage.run_loops()
    stage.clock.advance(60)
    stage.run_loops()

    assert stage.cluster.job_requests[f"{members[0]}-a2"].command[1] == "train"
    assert stage.run(members[1])["state"] == "running"


def test_what_a_pack_costs_is_counted_once(stage: Stage, members: list[str]) -> None:
    stage.run_loops()
    job, _ = find_pack(stage)
    stage.cluster.set_job_state(job, "running")
    stage.run_loops()
    stage.clock.advance(100)

    with stage.ctx.store.transaction() as uow:
        active = uow.metrics.active_usage(stage.clock.now())
    stage.cluster.set_job_state(job, "succeeded", exit_code=0)
    stage.run_loops()
    with stage.ctx.store.transaction() as uow:
        totals = uow.metrics.ended_totals()

    assert [(use.until - use.since).total_seconds() for use in active] == [100.0]
    assert [total.cpu_s for total in totals.values()] == [100.0 * active[0].num_cpus]


def list_events(stage: Stage, run_id: str) -> list[dict[str, Any]]:
    return list(stage.http.get(f"/v1/runs/{run_id}/events").json()["items"])


def mark_all_shipped(stage: Stage, run_id: str) -> None:
    """Mark all records as delivered to MLflow, as the worker does."""
    folder = stage.home / "runs" / run_id
    lines = len((folder / "spool.jsonl").read_bytes().splitlines())
    (folder / "spool.mlflow.position").write_text(str(lines))
