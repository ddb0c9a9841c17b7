"""Reconciles sweeps: their probes, drivers and reports; and sends them to MLflow.

Only the leader runs this loop. A driver is cheap, and the sweep's log detects concurrent writes of
two drivers, so in doubt another one is started.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from service.domain.errors.systems import ClusterFault, TrackerUnreachable
from service.domain.ports import Job
from service.domain.runs import Run
from service.domain.sweeps import UNFINISHED_SWEEP_STATES, Sweep, SweepState
from service.loops.base import for_each_isolated
from service.usecases.context import Context
from service.usecases.leadership import Leadership
from service.usecases.runs.queries import get_run
from service.usecases.sweeps.lifecycle import (
    apply_probe,
    enqueue_sweep_baselines,
    finish_sweep,
    fix_pack_size,
    handle_driver_exit,
    launch_probe,
    launch_report,
    stop_unprobed_sweep,
    submit_driver,
)
from service.usecases.sweeps.tracking import SweepTracker

LEASE = "sweeps"
_TRACKING_INTERVAL_S = 10.0

log = structlog.get_logger(__name__)


@dataclass
class _DriverWatch:
    """What this process has observed of a driver."""

    last_seen_at: datetime | None
    """Last request of the driver according to the database."""

    since: datetime
    """When this process first saw that request."""


class SweepReconciler:
    """Reconciles every unfinished sweep, and sends those to MLflow that are not synced."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._leadership = Leadership(LEASE, ctx)
        self._watches: dict[str, _DriverWatch] = {}
        self._tracker = SweepTracker()
        self._tracked_at: datetime | None = None

    def run_once(self) -> None:
        """Reconcile each sweep once."""
        now = self._ctx.clock.now()
        if not self._leadership.acquire():
            return
        with self._ctx.store.snapshot() as uow:
            active = uow.sweeps.in_states(*UNFINISHED_SWEEP_STATES)
        searching = {sweep.driver_job for sweep in active if sweep.state is SweepState.SEARCHING}
        self._watches = {job: watch for job, watch in self._watches.items() if job in searching}
        try:
            for_each_isolated(
                active, self._step, loop=LEASE, id_field="sweep_id", counters=self._ctx.counters
            )
        finally:
            self._track(now)

    def _step(self, sweep: Sweep) -> None:
        if sweep.state is SweepState.PROBING:
            self._step_probing(sweep)
        elif sweep.state is SweepState.SEARCHING:
            self._step_searching(sweep)
        else:
            self._step_reporting(sweep)

    def _step_probing(self, sweep: Sweep) -> None:
        run = self._get_run(sweep.probe_run_id)
        if run is None and sweep.desired == "stop":
            stop_unprobed_sweep(sweep.id, ctx=self._ctx)
        elif run is None:
            launch_probe(sweep.id, ctx=self._ctx)
        elif run.is_over:
            apply_probe(sweep, run, ctx=self._ctx)

    def _step_searching(self, sweep: Sweep) -> None:
        if sweep.driver == 0 or sweep.not_before is not None:
            if sweep.not_before is None or sweep.not_before <= self._ctx.clock.now():
                updated = fix_pack_size(sweep, ctx=self._ctx)
                enqueue_sweep_baselines(updated, ctx=self._ctx)
                submit_driver(sweep.id, ctx=self._ctx)
            return
        job = self._get_job(sweep.driver_job)
        handle_exit = partial(handle_driver_exit, sweep, job, ctx=self._ctx)
        if job is None:
            # The job was never submitted, or Ray's head restarted without its state.
            handle_exit(reason="is not known to Ray")
        elif job.is_over:
            handle_exit(reason=_describe_exit(job))
        elif self._heartbeat_age_s(sweep) > self._ctx.policy.lost_timeout_s:
            # Ray may show a dead job as running (ray#65037) until its logs are requested.
            self._ctx.cluster.stop(sweep.driver_job)
            handle_exit(reason=f"sent no request for {self._ctx.policy.lost_timeout_s:g} s")

    def _get_job(self, job_id: str) -> Job | None:
        try:
            return self._ctx.cluster.get_job(job_id)
        except ClusterFault as error:  # it may run, as long as it sends requests
            log.warning("driver.unreadable", job=job_id, reason=str(error))
            return Job("running")

    def _step_reporting(self, sweep: Sweep) -> None:
        run = self._get_run(sweep.report_run_id)
        if run is None:
            launch_report(sweep.id, ctx=self._ctx)
        elif run.is_over:
            finish_sweep(sweep.id, run, ctx=self._ctx)

    def _get_run(self, run_id: str | None) -> Run | None:
        return None if run_id is None else get_run(run_id, ctx=self._ctx)

    def _heartbeat_age_s(self, sweep: Sweep) -> float:
        """Seconds since a driver's last request, on the local clock."""
        now = self._ctx.clock.now()
        watch = self._watches.setdefault(sweep.driver_job, _DriverWatch(sweep.last_seen_at, now))
        if watch.last_seen_at != sweep.last_seen_at:
            watch.last_seen_at, watch.since = sweep.last_seen_at, now
        return (now - watch.since).total_seconds()

    def _track(self, now: datetime) -> None:
        """Send unsynced sweeps to MLflow every few seconds; an unreachable MLflow is retried."""
        elapsed_s = None if self._tracked_at is None else (now - self._tracked_at).total_seconds()
        if elapsed_s is not None and 0 <= elapsed_s < _TRACKING_INTERVAL_S:
            return
        self._tracked_at = now
        with self._ctx.store.snapshot() as uow:
            unsynced = uow.sweeps.not_synced()
        sync = partial(self._tracker.sync, ctx=self._ctx)
        try:
            for_each_isolated(
                unsynced, sync, loop=LEASE, id_field="sweep_id", counters=self._ctx.counters
            )
        except TrackerUnreachable as error:
            log.info("sweeps.not_synced", reason=str(error))


def _describe_exit(job: Job) -> str:
    exit_code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
    return f"{job.state}{exit_code} before the search was closed" + (
        f" ({job.message})" if job.message else ""
    )
