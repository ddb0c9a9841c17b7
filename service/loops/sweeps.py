"""Sweeps go on: their probes, drivers and reports; and MLflow shows each with its trials.

One service process at a time does this. A driver is cheap, and the list decides between two, so in
doubt another one is started.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from service.domain.errors import TrackerUnreachable
from service.domain.ports import Job
from service.domain.runs import Run
from service.domain.sweeps import FINISHED_SWEEP_STATES, Sweep, SweepState
from service.loops.base import for_each_isolated, is_leader
from service.usecases.context import Context
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
_TRACK_EVERY_S = 10.0

log = structlog.get_logger(__name__)


@dataclass
class _Watch:
    """What we have seen of a driver."""

    last_seen_at: datetime | None
    """Its last word, as the row says it."""

    since: datetime
    """When we saw that first."""


class SweepReconciler:
    """Looks at every sweep that is not over, and at those that MLflow does not show yet."""

    def __init__(self, ctx: Context) -> None:
        self._world = ctx
        self._watches: dict[str, _Watch] = {}
        self._tracking = SweepTracker()
        self._tracked_at: datetime | None = None

    def run_once(self) -> None:
        """One look at each."""
        now = self._world.clock.now()
        with self._world.store.transaction() as uow:
            if not is_leader(uow, LEASE, ctx=self._world):
                return
            live = uow.sweeps.in_states(
                *(state for state in SweepState if state not in FINISHED_SWEEP_STATES)
            )
        searching = {one.driver_job for one in live if one.state is SweepState.SEARCHING}
        self._watches = {job: seen for job, seen in self._watches.items() if job in searching}
        try:
            for_each_isolated(
                live, self._step, loop=LEASE, id_field="sweep_id", counters=self._world.counters
            )
        finally:
            self._track(now)

    def _step(self, sweep: Sweep) -> None:
        if sweep.state is SweepState.PROBING:
            self._probing(sweep)
        elif sweep.state is SweepState.SEARCHING:
            self._searching(sweep)
        else:
            self._reporting(sweep)

    def _probing(self, sweep: Sweep) -> None:
        run = self._run(sweep.probe_run_id)
        if run is None and sweep.desired == "stop":
            stop_unprobed_sweep(sweep.id, ctx=self._world)
        elif run is None:
            launch_probe(sweep.id, ctx=self._world)
        elif run.is_over:
            apply_probe(sweep, run, ctx=self._world)

    def _searching(self, sweep: Sweep) -> None:
        if sweep.driver == 0 or sweep.not_before is not None:
            if sweep.not_before is None or sweep.not_before <= self._world.clock.now():
                settled = fix_pack_size(sweep, ctx=self._world)
                enqueue_sweep_baselines(settled, ctx=self._world)
                submit_driver(sweep.id, ctx=self._world)
            return
        job = self._world.cluster.get_job(sweep.driver_job)
        ended = partial(handle_driver_exit, sweep, job, ctx=self._world)
        if job is None:
            # It was never submitted, or a head without memory was started.
            ended(why="is not known to Ray")
        elif job.is_over:
            ended(why=_end_in_words(job))
        elif self._silence_s(sweep) > self._world.policy.lost_timeout_s:
            # A head may show a dead job as running (ray#65037): asking for logs wakes it.
            self._world.cluster.stop(sweep.driver_job)
            ended(why=f"was not heard for {self._world.policy.lost_timeout_s:g} s")

    def _reporting(self, sweep: Sweep) -> None:
        run = self._run(sweep.report_run_id)
        if run is None:
            launch_report(sweep.id, ctx=self._world)
        elif run.is_over:
            finish_sweep(sweep.id, run, ctx=self._world)

    def _run(self, run_id: str | None) -> Run | None:
        return None if run_id is None else get_run(run_id, ctx=self._world)

    def _silence_s(self, sweep: Sweep) -> float:
        """How long nothing was heard of a driver, on our own clock."""
        now = self._world.clock.now()
        seen = self._watches.setdefault(sweep.driver_job, _Watch(sweep.last_seen_at, now))
        if seen.last_seen_at != sweep.last_seen_at:
            seen.last_seen_at, seen.since = sweep.last_seen_at, now
        return (now - seen.since).total_seconds()

    def _track(self, now: datetime) -> None:
        """MLflow away is nobody's fault here: what it lacks is brought later."""
        waited = None if self._tracked_at is None else (now - self._tracked_at).total_seconds()
        if waited is not None and 0 <= waited < _TRACK_EVERY_S:
            return
        self._tracked_at = now
        with self._world.store.transaction() as uow:
            unsettled = uow.sweeps.not_synced()
        track = partial(self._tracking.sync, ctx=self._world)
        try:
            for_each_isolated(
                unsettled, track, loop=LEASE, id_field="sweep_id", counters=self._world.counters
            )
        except TrackerUnreachable as error:
            log.info("sweeps.not_tracked", why=str(error))


def _end_in_words(job: Job) -> str:
    code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
    return f"{job.state}{code} before the search was closed" + (
        f" ({job.message})" if job.message else ""
    )
