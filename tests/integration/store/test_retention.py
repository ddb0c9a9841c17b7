"""Retention deletes what is old by policy and project, and nothing that others refer to."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from service.domain.access import AuditEntry
from service.domain.errors.systems import ClusterUnreachable
from service.domain.retention import PrunedKind, RetentionPolicy, RunRetention
from service.domain.vocabulary import Role
from service.loops.retention import RetentionLoop
from service.usecases import retention
from service.usecases.context import Context
from tests.support.factories import make_bckd_spec, make_spec, write_checkpoint
from tests.support.service.access import make_token
from tests.support.service.baseline_pairs import train_pair
from tests.support.service.runs import deliver, make_metrics, make_outcome, start_running_run
from tests.support.service.simulated_sweep import launch_sweep
from tests.support.service.stage import ON_BOTH_DATABASES, Stage

DAY_S = 86_400
ALL_RESULTS = RunRetention(
    events_days=1,
    metrics_days=1,
    logs_days=1,
    checkpoints_days=1,
    folders_days=2,
    spools_days=1,
)


@ON_BOTH_DATABASES
def test_by_default_results_stay_and_the_rest_goes(stage: Stage) -> None:
    run_id = finish_run(stage, idempotency_key="once")
    make_token(stage, "short", Role.VIEWER, days=1)
    stage.clock.advance(200 * DAY_S)

    expected = Counter({PrunedKind.SPOOLS: 1, PrunedKind.IDEMPOTENCY_KEYS: 1, PrunedKind.TOKENS: 1})
    assert prune(stage.ctx, is_dry_run=True) == expected
    assert prune(stage.ctx) == expected
    assert prune(stage.ctx) == Counter()

    files = {path.name for path in (stage.home / "runs" / run_id).rglob("*.*")}
    assert {"last.pth", "attempt-1.log"} <= files
    assert RunFile.SPOOL not in files
    assert len(stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"]) == 1
    assert stage.http.get(f"/v1/runs/{run_id}/events").json()["items"]
    assert stage.http.get(f"/v1/runs/{run_id}/logs").text == "a line\n"


@ON_BOTH_DATABASES
def test_results_go_where_the_policy_says_so(stage: Stage) -> None:
    set_policy(stage, RetentionPolicy(runs=ALL_RESULTS, audit_days=1))
    run_id = finish_run(stage)
    for _ in range(3):
        with stage.ctx.store.transaction() as uow:
            uow.audit.add(AuditEntry(stage.clock.now(), "ada", "POST", "/", 200, "", ""))
    stage.clock.advance(3 * DAY_S)
    young_id = finish_run(stage, seed=1)

    planned, pruned = prune(stage.ctx, is_dry_run=True), prune(stage.ctx)

    assert pruned[PrunedKind.FOLDERS] == planned[PrunedKind.FOLDERS] == 1
    assert planned[PrunedKind.EVENTS] == pruned[PrunedKind.EVENTS] > 0
    assert pruned[PrunedKind.AUDIT] == 5  # also the requests of `finish_run`
    assert stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"] == []
    assert not (stage.home / "runs" / run_id).exists()
    assert not (stage.home / "logs-of-runs" / run_id).exists()
    assert stage.http.get(f"/v1/runs/{run_id}/events").json()["items"] == []
    assert stage.run(run_id)["state"] == "succeeded"
    assert (stage.home / "runs" / young_id / RunFile.LAST).exists()


def test_the_newest_event_and_audit_entry_keep_their_numbers(stage: Stage) -> None:
    set_policy(stage, RetentionPolicy(runs=ALL_RESULTS, audit_days=1))
    run_id = finish_run(stage)
    events = stage.http.get("/v1/events").json()["items"]
    stage.clock.advance(3 * DAY_S)

    prune(stage.ctx)

    # SQLite would give them to the next event, and streams continue behind the last number.
    assert stage.http.get(f"/v1/runs/{run_id}/events").json()["items"] == events[-1:]
    assert len(stage.http.get("/v1/audit").json()["items"]) == 1


def test_a_project_may_differ(stage: Stage) -> None:
    playground = replace(RunRetention(), folders_days=1)
    set_policy(stage, RetentionPolicy(projects={"playground": playground}))
    default, deleted = finish_run(stage), finish_run(stage, project="playground")
    stage.clock.advance(3 * DAY_S)

    assert prune(stage.ctx) == Counter({PrunedKind.FOLDERS: 1})

    assert (stage.home / "runs" / default).exists()
    assert not (stage.home / "runs" / deleted).exists()


def test_the_files_of_a_run_that_others_refer_to_stay(stage: Stage) -> None:
    set_policy(stage, RetentionPolicy(runs=ALL_RESULTS))
    teacher = finish_run(stage)
    student = stage.launch(spec=make_bckd_spec(teacher={"run": teacher}), baseline="off")["id"]
    registered = finish_run(stage, seed=3)
    file = write_checkpoint(stage.home / "runs" / registered / RunFile.BEST)
    register_teacher(stage, file)
    distilled, baseline = train_pair(stage)
    lonely = finish_run(stage, seed=4)
    for run_id in (distilled, baseline):
        write_files(stage, run_id)
    report = stage.run(distilled)["report_run_id"]
    stage.clock.advance(10 * DAY_S)

    prune(stage.ctx)

    remaining = {folder.name for folder in (stage.home / "runs").iterdir()}
    assert {teacher, registered, distilled, baseline} <= remaining
    assert lonely not in remaining
    assert (stage.home / "runs" / teacher / RunFile.LAST).exists()
    assert report is not None
    assert student != teacher


def test_the_best_trial_of_a_sweep_stays(stage: Stage) -> None:
    set_policy(stage, RetentionPolicy(runs=ALL_RESULTS))
    sweep = launch_sweep(stage)
    stage.run_loops()
    stage.run_loops()
    sweep.finish_probe()
    run_ids = [sweep.suggest(number)[0] for number in range(2)]
    for run_id, value in zip(run_ids, (0.3, 0.2), strict=True):
        stage.run_loops()
        sweep.report_evaluation(run_id, 4, value)
        sweep.finish(run_id)
        write_files(stage, run_id)
    for number, value in enumerate((0.3, 0.2)):
        assert sweep.end(number, "finished", 4, val_bbox_mAP=value).is_success
    stage.clock.advance(10 * DAY_S)
    prune(stage.ctx)
    while_searching = [(stage.home / "runs" / run_id).exists() for run_id in run_ids]
    sweep.close()
    stage.run_loops()
    stage.run_loops()
    sweep.finish_report()
    stage.run_loops()
    stage.clock.advance(10 * DAY_S)

    prune(stage.ctx)

    assert while_searching == [True, True]
    assert sweep.state == "succeeded"
    assert [(stage.home / "runs" / run_id).exists() for run_id in run_ids] == [True, False]


def test_a_run_whose_files_are_gone_cannot_be_retried(stage: Stage) -> None:
    set_policy(stage, RetentionPolicy(runs=replace(RunRetention(), checkpoints_days=1)))
    run_id = finish_run(stage, result="failed")
    stage.clock.advance(3 * DAY_S)
    spool = stage.home / "runs" / run_id / RunFile.SPOOL

    assert prune(stage.ctx)[PrunedKind.CHECKPOINTS] == 1
    response = stage.http.post(f"/v1/runs/{run_id}:retry")

    assert spool.exists()  # only those of runs that succeeded are deleted
    assert response.status_code == 409
    assert response.json()["code"] == "files_deleted"


def test_a_run_that_is_not_over_stays(stage: Stage) -> None:
    set_policy(stage, RetentionPolicy(runs=ALL_RESULTS))
    run_id = start_running_run(stage)
    write_files(stage, run_id)
    stage.http.post(f"/v1/runs/{run_id}:pause")
    stage.cluster.set_job_state(f"{run_id}-a1", "stopped", exit_code=50)
    stage.run_loops()
    stage.clock.advance(100 * DAY_S)

    prune(stage.ctx)

    assert (stage.home / "runs" / run_id / RunFile.LAST).exists()


def test_finished_jobs_leave_the_cluster_once_they_are_concluded(stage: Stage) -> None:
    run_id = finish_run(stage)
    running = start_running_run(stage, seed=2)
    old = stage.clock.now()
    jobs = stage.cluster
    jobs.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0, ended_at=old)
    jobs.set_job_state(f"{run_id}-a1-flush1", "succeeded", exit_code=0, ended_at=old)
    jobs.set_job_state("raysubmit_1", "succeeded", exit_code=0, ended_at=old)
    jobs.set_job_state("r99999999999z-a1", "succeeded", exit_code=0, ended_at=old)
    jobs.set_job_state(f"{running}-a1", "failed", exit_code=1, ended_at=old)
    stage.clock.advance(8 * DAY_S)

    assert prune(stage.ctx)[PrunedKind.RAY_JOBS] == 2

    assert set(jobs.jobs_by_id) == {"raysubmit_1", "r99999999999z-a1", f"{running}-a1"}


def test_everything_else_is_deleted_while_the_cluster_is_away(stage: Stage) -> None:
    finish_run(stage)
    stage.clock.advance(100 * DAY_S)
    stage.cluster.is_reachable = False

    with pytest.raises(ClusterUnreachable):
        prune(stage.ctx)

    assert not list((stage.home / "runs").rglob(RunFile.SPOOL.value))


def test_many_rows_are_deleted_in_several_transactions(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ROW_BATCH", 4)
    set_policy(stage, RetentionPolicy(runs=replace(RunRetention(), metrics_days=1)))
    run_id = start_running_run(stage)
    deliver(stage, run_id, [make_metrics(stage, step, loss=1.0) for step in range(1, 11)])
    end_run(stage, run_id, first=10)
    stage.clock.advance(3 * DAY_S)

    steps = [step.number for step in retention.prune(stage.ctx) if step.kind == "metric_values"]

    assert steps == [4, 4, 2]


def test_the_loop_runs_once_an_hour_and_only_in_one_process(stage: Stage) -> None:
    finish_run(stage)
    stage.clock.advance(10 * DAY_S)
    other = RetentionLoop(replace(stage.ctx, owner="other"), first_delay=timedelta())
    loop = RetentionLoop(stage.ctx)

    loop.run_once()
    is_early = bool(list((stage.home / "runs").rglob(RunFile.SPOOL.value)))
    with stage.ctx.store.transaction() as uow:
        now = stage.clock.now()
        until = now + timedelta(days=1)
        assert uow.leader_leases.acquire("retention", owner="us", now=now, until=until)
    other.run_once()
    is_foreign = bool(list((stage.home / "runs").rglob(RunFile.SPOOL.value)))
    with stage.ctx.store.transaction() as uow:
        uow.leader_leases.release("us")
    stage.clock.advance(301)
    loop.run_once()

    assert is_early
    assert is_foreign
    assert not list((stage.home / "runs").rglob(RunFile.SPOOL.value))


def prune(ctx: Context, *, is_dry_run: bool = False) -> Counter[str]:
    """Prune, and return the number of deleted things by kind."""
    total: Counter[str] = Counter()
    for step in retention.prune(ctx, is_dry_run=is_dry_run):
        total[step.kind] += step.number
    return +total


def set_policy(stage: Stage, policy: RetentionPolicy) -> None:
    ctx = stage.ctx
    stage.app.state.ctx = replace(ctx, policy=replace(ctx.policy, retention=policy))


def finish_run(
    stage: Stage,
    *,
    result: str = "succeeded",
    project: str = "default",
    seed: int = 0,
    idempotency_key: str | None = None,
) -> str:
    """A run that is over, with a metric value, a log, a spool and checkpoints."""
    stage.add_dataset()
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    body: dict[str, Any] = {"spec": make_spec(seed=seed), "project": project}
    response = stage.http.post("/v1/runs", json=body, headers=headers)
    run_id = str(response.json()["id"])
    stage.run_loops()
    deliver(stage, run_id, [make_metrics(stage, 1, loss=1.0)])
    write_files(stage, run_id)
    end_run(stage, run_id, first=1, result=result)
    return run_id


def end_run(stage: Stage, run_id: str, *, first: int, result: str = "succeeded") -> None:
    outcome = make_outcome(stage, result)
    if result == "failed":
        outcome = outcome.model_copy(update={"reason": FailureReason.BUG, "message": "it broke"})
    deliver(stage, run_id, [outcome], first=first)
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    stage.run_loops()
    stage.run_loops()
    assert stage.run(run_id)["state"] == result
    with stage.ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        uow.runs.save(replace(run, tracking=replace(run.tracking, mlflow_synced=True)))


def write_files(stage: Stage, run_id: str) -> None:
    folder = stage.home / "runs" / run_id
    for name in (RunFile.LAST, "logs/attempt-1.log"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a line\n")
    (folder / RunFile.SPOOL).touch()


def register_teacher(stage: Stage, checkpoint: Path) -> None:
    stage.add_teacher("copy")
    with stage.ctx.store.transaction() as uow:
        teacher = uow.registry.teacher("copy")
        assert teacher is not None
        uow.registry.put_teacher(replace(teacher, checkpoint=checkpoint))
