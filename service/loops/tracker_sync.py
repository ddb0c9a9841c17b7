"""Prepares MLflow's experiments, describes runs there, and completes the finished ones.

A worker creates the MLflow run of its run and logs to it; this loop adds what only the service
knows, then the records that the worker could not send, and the final status.
"""

from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from service.domain.errors.systems import ClusterFault, TrackerRefused, TrackerUnreachable
from service.domain.ports import FINAL_STATUS, JobRequest
from service.domain.runs import Run, RunTracking
from service.loops.base import for_each_isolated
from service.usecases.attempts.records import count_unshipped_records
from service.usecases.context import Context
from service.usecases.leadership import Leadership
from service.usecases.tracking import describe_tracked_run, prepare_experiments

_LEASE = "tracker_sync"
_FLUSH = "-flush"
_MAX_FLUSH_JOBS = 5
_PREPARE_INTERVAL = timedelta(minutes=1)
"""So often a new project gets its experiment, and a deleted experiment is noticed."""

_RETRY_INTERVAL = timedelta(seconds=10)


log = structlog.get_logger(__name__)


class TrackerSync:
    """One turn prepares experiments now and then, describes new runs, and syncs finished ones."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._leadership = Leadership(_LEASE, ctx)
        self._next_preparation_at: datetime | None = None
        self._described_run_ids: set[str] = set()
        self._unreadable_since: dict[str, datetime] = {}
        """Flush jobs that Ray cannot describe."""

    def run_once(self) -> None:
        """Do each step once; only the leader among the service processes sends runs."""
        now = self._ctx.clock.now()
        if self._next_preparation_at is None or now >= self._next_preparation_at:
            self._next_preparation_at = now + self._prepare_experiments()
        if not self._leadership.acquire():
            return
        self._describe_active_runs()
        self._sync_finished_runs()

    def _prepare_experiments(self) -> timedelta:
        """Prepare all experiments; returns the time to wait until the next preparation.

        Without MLflow the turn goes on: it fails only if there is something to send.
        """
        try:
            prepare_experiments(ctx=self._ctx)
        except TrackerRefused as error:  # somebody deleted an experiment
            log.warning("experiment.tags_rejected", reason=str(error))
        except TrackerUnreachable as error:
            log.debug("experiment.not_prepared", reason=str(error))
            return _RETRY_INTERVAL
        return _PREPARE_INTERVAL

    def _describe_active_runs(self) -> None:
        with self._ctx.store.snapshot() as uow:
            tracked = uow.runs.running_in_mlflow()
            new_ids = tracked.keys() - self._described_run_ids
            new = [uow.runs.get(run_id) for run_id in sorted(new_ids)]
        self._described_run_ids &= tracked.keys()
        for_each_isolated(
            new, lambda run: self._describe(run, tracked[run.id]), loop="tracker_sync"
        )

    def _describe(self, run: Run, mlflow_run_id: str) -> None:
        self._described_run_ids.add(run.id)
        try:
            describe_tracked_run(run, mlflow_run_id, ctx=self._ctx)
        except TrackerRefused as error:  # somebody deleted its MLflow run
            log.warning("run.description_rejected", run_id=run.id, reason=str(error))

    def _sync_finished_runs(self) -> None:
        """Send the remaining records and the final status of every unsynced finished run."""
        with self._ctx.store.snapshot() as uow:
            unsynced = uow.runs.not_synced()
        attempts = {run.submission_id for run in unsynced}
        self._unreadable_since = {
            job: since
            for job, since in self._unreadable_since.items()
            if job.rpartition(_FLUSH)[0] in attempts
        }
        for_each_isolated(unsynced, self._sync_run, loop="tracker_sync")

    def _sync_run(self, run: Run) -> None:
        # First, because a flush job would fail while MLflow is unreachable.
        tracked_run_id = self._ctx.tracker.find(run.id, project=run.project)
        num_pending = count_unshipped_records(run, ctx=self._ctx)
        if num_pending == 0 or self._flush_records(run):
            _set_status(
                run,
                mlflow_run_id=run.tracking.mlflow_run_id or tracked_run_id,
                num_pending=num_pending,
                ctx=self._ctx,
            )

    def _flush_records(self, run: Run) -> bool:
        """Ship the remaining records by a flush job; returns whether no more jobs will follow.

        A failed job is followed by another one, because MLflow may have become unreachable during
        it, and so is one that Ray has not been able to describe for a long time.
        """
        for number in range(1, _MAX_FLUSH_JOBS + 1):
            submission_id = f"{run.submission_id}{_FLUSH}{number}"
            try:
                job = self._ctx.cluster.get_job(submission_id)
            except ClusterFault:
                if not self._is_lost(submission_id):
                    raise
                continue
            self._unreadable_since.pop(submission_id, None)
            if job is None:
                _submit_flush(run, submission_id, ctx=self._ctx)
                return False
            if not job.is_over or job.state == "succeeded":
                return job.is_over
        log.warning("run.records_not_shipped", run_id=run.id, flush_jobs=_MAX_FLUSH_JOBS)
        return True

    def _is_lost(self, submission_id: str) -> bool:
        now = self._ctx.clock.now()
        since = self._unreadable_since.setdefault(submission_id, now)
        return (now - since).total_seconds() > self._ctx.policy.lost_timeout_s


def _set_status(run: Run, *, mlflow_run_id: str | None, num_pending: int, ctx: Context) -> None:
    if mlflow_run_id is not None:
        at = run.finished_at or ctx.clock.now()
        try:
            describe_tracked_run(run, mlflow_run_id, ctx=ctx)
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


def _submit_flush(run: Run, submission_id: str, *, ctx: Context) -> None:
    folder = str(ctx.files.run_dir(run.id))
    command = ("tandem-worker", "flush", "--run-dir", folder)
    ctx.cluster.submit(
        JobRequest(submission_id, command, num_cpus=1, num_gpus=0, metadata={"run_id": run.id})
    )
    log.info("run.flush_submitted", run_id=run.id)
