"""What is over for us is over for MLflow too, and has all of its numbers there."""

from dataclasses import replace
from functools import partial

import structlog

from service.domain.errors import TrackerRefused
from service.domain.ports import FINAL_STATUS, JobRequest
from service.domain.runs import Run
from service.loops.base import for_each_isolated, is_leader
from service.usecases.attempts.records import count_unshipped_records
from service.usecases.context import Context

_DUTY = "settle"
_MOST_SHIPMENTS = 5

log = structlog.get_logger(__name__)


def sync_finished_runs(ctx: Context) -> None:
    """Bring left records and the final status of every finished run to MLflow."""
    with ctx.store.transaction() as uow:
        if not is_leader(uow, _DUTY, ctx=ctx):
            return
        unsettled = uow.runs.not_synced()
    for_each_isolated(unsettled, partial(_settle, ctx=ctx), loop="settle")


def _settle(run: Run, *, ctx: Context) -> None:
    # Asked first: a shipment would be in vain while MLflow does not answer.
    found = ctx.tracker.find(run.id, project=run.project)
    left = count_unshipped_records(run, ctx=ctx)
    if left == 0 or _have_shipped(run, ctx=ctx):
        _set_status(run, mlflow_run_id=run.mlflow_run_id or found, left=left, ctx=ctx)


def _set_status(run: Run, *, mlflow_run_id: str | None, left: int, ctx: Context) -> None:
    if mlflow_run_id is not None:
        at = run.finished_at or ctx.clock.now()
        try:
            ctx.tracker.set_status(mlflow_run_id, FINAL_STATUS[run.state], at=at)
        except TrackerRefused as error:
            log.warning("run.status_refused", run_id=run.id, why=str(error))
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        settled = replace(
            current,
            mlflow_run_id=mlflow_run_id,
            mlflow_synced=True,
            pending_records={**current.pending_records, "mlflow": left},
        )
        uow.runs.save(settled)


def _have_shipped(run: Run, *, ctx: Context) -> bool:
    """Let a small job flush what the trainer could not; whether nothing more is to be hoped for.

    MLflow may go away under a shipment, so one that failed is followed by another.
    """
    for number in range(1, _MOST_SHIPMENTS + 1):
        submission_id = f"{run.submission_id}-flush{number}"
        job = ctx.cluster.get_job(submission_id)
        if job is None:
            _ship(run, submission_id, ctx=ctx)
            return False
        if not job.is_over or job.state == "succeeded":
            return job.is_over
    log.warning("run.records_left", run_id=run.id, shipments=_MOST_SHIPMENTS)
    return True


def _ship(run: Run, submission_id: str, *, ctx: Context) -> None:
    folder = str(ctx.files.run_dir(run.id))
    command = ("tandem-worker", "flush", "--run-dir", folder)
    ctx.cluster.submit(
        JobRequest(submission_id, command, num_cpus=1, num_gpus=0, metadata={"run_id": run.id})
    )
    log.info("run.shipping", run_id=run.id)
