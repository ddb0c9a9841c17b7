"""Sends the remaining records and the final status of finished runs to MLflow."""

from dataclasses import replace
from functools import partial

import structlog

from service.domain.errors import TrackerRefused
from service.domain.ports import FINAL_STATUS, JobRequest
from service.domain.runs import Run, RunTracking
from service.loops.base import for_each_isolated, is_leader
from service.usecases.attempts.records import count_unshipped_records
from service.usecases.context import Context

_LEASE = "tracker_sync"
_MAX_FLUSH_JOBS = 5

log = structlog.get_logger(__name__)


def sync_finished_runs(ctx: Context) -> None:
    """Send the remaining records and the final status of every unsynced finished run."""
    with ctx.store.transaction() as uow:
        if not is_leader(uow, _LEASE, ctx=ctx):
            return
        unsynced = uow.runs.not_synced()
    for_each_isolated(unsynced, partial(_sync_run, ctx=ctx), loop="tracker_sync")


def _sync_run(run: Run, *, ctx: Context) -> None:
    # First, because a flush job would fail while MLflow is unreachable.
    tracked_run_id = ctx.tracker.find(run.id, project=run.project)
    num_pending = count_unshipped_records(run, ctx=ctx)
    if num_pending == 0 or _flush_records(run, ctx=ctx):
        _set_status(
            run,
            mlflow_run_id=run.tracking.mlflow_run_id or tracked_run_id,
            num_pending=num_pending,
            ctx=ctx,
        )


def _set_status(run: Run, *, mlflow_run_id: str | None, num_pending: int, ctx: Context) -> None:
    if mlflow_run_id is not None:
        at = run.finished_at or ctx.clock.now()
        try:
            ctx.tracker.set_status(mlflow_run_id, FINAL_STATUS[run.state], at=at)
        except TrackerRefused as error:
            log.warning("run.status_rejected", run_id=run.id, reason=str(error))
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        pending = {**current.ingest.pending_records, "mlflow": num_pending}
        synced = replace(
            current,
            tracking=RunTracking(mlflow_run_id=mlflow_run_id, mlflow_synced=True),
            ingest=replace(current.ingest, pending_records=pending),
        )
        uow.runs.save(synced)


def _flush_records(run: Run, *, ctx: Context) -> bool:
    """Ship the remaining records by a flush job; returns whether no more jobs will be submitted.

    A failed job is followed by another one, because MLflow may have become unreachable during it.
    """
    for number in range(1, _MAX_FLUSH_JOBS + 1):
        submission_id = f"{run.submission_id}-flush{number}"
        job = ctx.cluster.get_job(submission_id)
        if job is None:
            _submit_flush(run, submission_id, ctx=ctx)
            return False
        if not job.is_over or job.state == "succeeded":
            return job.is_over
    log.warning("run.records_not_shipped", run_id=run.id, flush_jobs=_MAX_FLUSH_JOBS)
    return True


def _submit_flush(run: Run, submission_id: str, *, ctx: Context) -> None:
    folder = str(ctx.files.run_dir(run.id))
    command = ("tandem-worker", "flush", "--run-dir", folder)
    ctx.cluster.submit(
        JobRequest(submission_id, command, num_cpus=1, num_gpus=0, metadata={"run_id": run.id})
    )
    log.info("run.flush_submitted", run_id=run.id)
