"""Reconciles active runs with their Ray jobs, also after a restart of the service or of Ray.

An unreachable Ray does not mean that a job has ended, and an unknown job does not mean that its
processes have: a driver on a worker node outlives its head for a while. The age of the last
heartbeat decides instead. It is measured on the local clock, from the moment at which this process
first saw the heartbeat: neither an outage of the service nor a wrong clock elsewhere makes a worker
look dead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.domain.errors.systems import ClusterFault
from service.domain.ports import Job
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.loops.base import for_each_isolated
from service.usecases.attempts.finish import end_attempt, has_left_pack, mark_stalled
from service.usecases.attempts.packs import submit_job
from service.usecases.attempts.records import poll_spool
from service.usecases.attempts.start import mark_running, record_node
from service.usecases.context import Context

MAX_GAP_S = 30.0
"""After a longer gap between two turns, as of a sleeping laptop, all heartbeat ages start anew."""

_ABANDON_AFTER_STOP_S = 90.0
"""Added to the grace period of a stop. A job pending inside Ray cannot be stopped (ray#58353)."""

_STOP_INTERVAL_S = 10.0

_LEASE_BATCH_SIZE = 200
"""Leases in one transaction, so that heartbeats of their runs are not kept waiting."""

log = structlog.get_logger(__name__)


@dataclass
class _AttemptWatch:
    """What this process has observed of an attempt."""

    last_seen_at: datetime | None
    """Last heartbeat according to the database."""

    since: datetime
    """When this process first saw that heartbeat."""

    is_node_recorded: bool = False
    has_requested_logs: bool = False
    stopped_at: datetime | None = None


class Reconciler:
    """Reconciles all active runs whose lease this service process holds or can take."""

    def __init__(self, ctx: Context, *, max_gap_s: float = MAX_GAP_S) -> None:
        self._ctx = ctx
        self._max_gap_s = max_gap_s
        self._last_turn_at = ctx.clock.now()
        self._watches: dict[str, _AttemptWatch] = {}
        self._leased_at = ctx.clock.now()
        self._jobs: Mapping[str, Job] | None = None
        """The jobs of this turn; None if each has to be asked for."""

    def run_once(self) -> None:
        """Reconcile each run once."""
        now = self._ctx.clock.now()
        if (now - self._last_turn_at).total_seconds() > self._max_gap_s:
            self._watches.clear()
        self._lease_runs()
        with self._ctx.store.snapshot() as uow:
            runs = uow.runs.leased_by(self._ctx.owner, RunState.STARTING, RunState.RUNNING)
        active = {run.submission_id for run in runs}
        self._watches = {job: watch for job, watch in self._watches.items() if job in active}
        try:
            if runs:
                self._jobs = self._list_jobs()
                for_each_isolated(
                    runs, self._reconcile, loop="reconcile", counters=self._ctx.counters
                )
        finally:
            self._last_turn_at = self._ctx.clock.now()

    def _lease_runs(self) -> None:
        """Acquire all leases that are free, and renew those with less than half left."""
        self._leased_at = self._ctx.clock.now()
        while self._lease_batch() == _LEASE_BATCH_SIZE:
            pass

    def _lease_batch(self) -> int:
        owner, now = self._ctx.owner, self._ctx.clock.now()
        with self._ctx.store.transaction() as uow:
            leases = uow.runs.lease(
                *(RunState.STARTING, RunState.RUNNING),
                owner=owner,
                now=now,
                until=now + timedelta(seconds=self._ctx.policy.lease_s),
                limit=_LEASE_BATCH_SIZE,
            )
            takeovers = {
                lease.run_id: f"Lease taken by {owner} from {lease.previous_owner}."
                for lease in leases
                if lease.previous_owner is not None
            }
            uow.events.add(
                *(
                    Event(run_id, now, "service", EventKind.LEASE_TAKEN, details)
                    for run_id, details in takeovers.items()
                )
            )
        self._ctx.counters.count("leases_taken_over", len(takeovers))
        return len(leases)

    def _list_jobs(self) -> Mapping[str, Job] | None:
        try:
            return self._ctx.cluster.jobs()
        except ClusterFault as error:  # Ray cannot describe one of them
            log.warning("jobs.not_listed", reason=str(error))
            return None

    def _get_job(self, run: Run) -> Job | None:
        if self._jobs is None:
            return self._ctx.cluster.get_job(run.job_id)
        return self._jobs.get(run.job_id)

    def _reconcile(self, run: Run) -> None:
        # A turn may take longer than a lease: renew often enough that half of each is left.
        leased_for_s = (self._ctx.clock.now() - self._leased_at).total_seconds()
        if leased_for_s > self._ctx.policy.lease_s / 4:
            self._lease_runs()
        self._update_watch(run)
        try:
            job = self._get_job(run)
        except ClusterFault as error:
            self._handle_unreadable_job(run, error)
            return
        if job is None:
            self._handle_missing_job(run)
        elif job.is_over:
            self._end(run, job)
        else:
            self._handle_live_job(run, job)

    def _update_watch(self, run: Run) -> None:
        watch = self._watches.get(run.submission_id)
        if watch is None:
            self._watches[run.submission_id] = _AttemptWatch(
                run.ingest.last_seen_at, self._ctx.clock.now()
            )
        elif watch.last_seen_at != run.ingest.last_seen_at:
            # It arrived after the last turn, and turns are frequent.
            watch.last_seen_at, watch.since = run.ingest.last_seen_at, self._last_turn_at

    def _handle_missing_job(self, run: Run) -> None:
        """The job was never submitted, or Ray has lost it."""
        is_new = run.ingest.last_seen_at is None and run.state is RunState.STARTING
        is_lost = self._heartbeat_age_s(run) > self._ctx.policy.lost_timeout_s
        if is_lost or (is_new and run.stop_kind is not None):
            self._end(run, None)
        elif is_new:
            # The service stopped between storing the attempt and submitting its job.
            submit_job(run, ctx=self._ctx)

    def _handle_unreadable_job(self, run: Run, error: ClusterFault) -> None:
        """Ray answers with an error: the job may run, as long as its worker reports."""
        log.warning("job.unreadable", run_id=run.id, job=run.job_id, reason=str(error))
        if self._heartbeat_age_s(run) > self._ctx.policy.lost_timeout_s:
            self._end(run, None)

    def _handle_live_job(self, run: Run, job: Job) -> None:
        if run.state is RunState.STARTING and job.state == "running":
            mark_running(run, ctx=self._ctx)
        self._record_node_once(run, job)
        if has_left_pack(run, ctx=self._ctx):
            self._end(run, job)
            return
        heartbeat_age_s = self._heartbeat_age_s(run)
        if heartbeat_age_s > self._ctx.policy.lost_timeout_s:
            self._request_logs_once(run)
        if heartbeat_age_s > self._ctx.policy.stall_timeout_s and mark_stalled(run, ctx=self._ctx):
            self._stop(run)
        elif run.stop_requested_at is not None:
            self._escalate_stop(run, job, requested_at=run.stop_requested_at)

    def _escalate_stop(self, run: Run, job: Job, *, requested_at: datetime) -> None:
        """Stop the job after the worker's grace period; later abandon the attempt if it runs on."""
        waited_s = (self._ctx.clock.now() - requested_at).total_seconds()
        grace_s = self._ctx.policy.stop_grace_s
        if waited_s > grace_s + _ABANDON_AFTER_STOP_S:
            self._end(run, job)
        elif waited_s > grace_s:
            self._stop(run)

    def _stop(self, run: Run) -> None:
        watch, now = self._watches[run.submission_id], self._ctx.clock.now()
        if not self._may_stop_job(run):
            return
        if watch.stopped_at is None or (now - watch.stopped_at).total_seconds() > _STOP_INTERVAL_S:
            self._ctx.cluster.stop(run.job_id)
            watch.stopped_at = now

    def _may_stop_job(self, run: Run) -> bool:
        """Whether every run of its job was asked to stop: one that continues keeps a pack's job."""
        if run.pack.job is None:
            return True
        with self._ctx.store.snapshot() as uow:
            return all(
                packmate.stop_requested_at is not None
                for packmate in uow.runs.of_pack(run.pack.job)
            )

    def _record_node_once(self, run: Run, job: Job) -> None:
        watch = self._watches[run.submission_id]
        if job.node_id is not None and not watch.is_node_recorded:
            record_node(run, node_id=job.node_id, ctx=self._ctx)
            watch.is_node_recorded = True

    def _request_logs_once(self, run: Run) -> None:
        # A restarted head shows a dead job as running until its logs are requested (ray#65037).
        watch = self._watches[run.submission_id]
        if not watch.has_requested_logs:
            watch.has_requested_logs = True
            self._ctx.cluster.logs(run.job_id)

    def _end(self, run: Run, job: Job | None) -> None:
        ended = end_attempt(run, job, ctx=self._ctx)
        log.info("attempt.ended", run_id=run.id, attempt=run.attempt, state=ended.state)

    def _heartbeat_age_s(self, run: Run) -> float:
        """Seconds since the last heartbeat; new records in the spool on disk count as one."""
        watch, now = self._watches[run.submission_id], self._ctx.clock.now()
        heartbeat_age_s = (now - watch.since).total_seconds()
        if heartbeat_age_s > self._ctx.policy.lost_timeout_s and poll_spool(run.id, ctx=self._ctx):
            watch.since = now
            return 0.0
        return heartbeat_age_s
