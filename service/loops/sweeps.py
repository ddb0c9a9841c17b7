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
from service.domain.sweeps import SWEEP_OVER, Sweep, SweepState
from service.loops.base import each, is_on_duty
from service.usecases.context import World
from service.usecases.runs.queries import show_run
from service.usecases.sweeps.lifecycle import (
    book_baselines,
    driver_ended,
    launch_probe,
    launch_report,
    settle_packs,
    stop_before_probe,
    submit_driver,
    take_probe,
    take_report,
)
from service.usecases.sweeps.tracking import Tracking

DUTY = "sweeps"
_TRACK_EVERY_S = 10.0

log = structlog.get_logger(__name__)


@dataclass
class _Watch:
    """What we have seen of a driver."""

    heard_at: datetime | None
    """Its last word, as the row says it."""

    since: datetime
    """When we saw that first."""


class SweepKeeper:
    """Looks at every sweep that is not over, and at those that MLflow does not show yet."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._watches: dict[str, _Watch] = {}
        self._tracking = Tracking()
        self._tracked_at: datetime | None = None

    def turn(self) -> None:
        """One look at each."""
        now = self._world.clock.now()
        with self._world.store.begin() as unit:
            if not is_on_duty(unit, DUTY, world=self._world):
                return
            live = unit.sweeps.in_states(
                *(state for state in SweepState if state not in SWEEP_OVER)
            )
        searching = {one.driver_job for one in live if one.state is SweepState.SEARCHING}
        self._watches = {job: seen for job, seen in self._watches.items() if job in searching}
        try:
            each(live, self._step, loop=DUTY, named="sweep_id", meter=self._world.meter)
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
        if run is None and sweep.wants == "stop":
            stop_before_probe(sweep.id, world=self._world)
        elif run is None:
            launch_probe(sweep.id, world=self._world)
        elif run.is_over:
            take_probe(sweep, run, world=self._world)

    def _searching(self, sweep: Sweep) -> None:
        if sweep.driver == 0 or sweep.not_before is not None:
            if sweep.not_before is None or sweep.not_before <= self._world.clock.now():
                settled = settle_packs(sweep, world=self._world)
                book_baselines(settled, world=self._world)
                submit_driver(sweep.id, world=self._world)
            return
        job = self._world.cluster.look(sweep.driver_job)
        ended = partial(driver_ended, sweep, job, world=self._world)
        if job is None:
            # It was never submitted, or a head without memory was started.
            ended(why="is not known to Ray")
        elif job.is_over:
            ended(why=_end_in_words(job))
        elif self._silence_s(sweep) > self._world.rules.lost_after_s:
            # A head may show a dead job as running (ray#65037): asking for logs wakes it.
            self._world.cluster.stop(sweep.driver_job)
            ended(why=f"was not heard for {self._world.rules.lost_after_s:g} s")

    def _reporting(self, sweep: Sweep) -> None:
        run = self._run(sweep.report_run_id)
        if run is None:
            launch_report(sweep.id, world=self._world)
        elif run.is_over:
            take_report(sweep.id, run, world=self._world)

    def _run(self, run_id: str | None) -> Run | None:
        return None if run_id is None else show_run(run_id, world=self._world)

    def _silence_s(self, sweep: Sweep) -> float:
        """How long nothing was heard of a driver, on our own clock."""
        now = self._world.clock.now()
        seen = self._watches.setdefault(sweep.driver_job, _Watch(sweep.heard_at, now))
        if seen.heard_at != sweep.heard_at:
            seen.heard_at, seen.since = sweep.heard_at, now
        return (now - seen.since).total_seconds()

    def _track(self, now: datetime) -> None:
        """MLflow away is nobody's fault here: what it lacks is brought later."""
        waited = None if self._tracked_at is None else (now - self._tracked_at).total_seconds()
        if waited is not None and 0 <= waited < _TRACK_EVERY_S:
            return
        self._tracked_at = now
        with self._world.store.begin() as unit:
            unsettled = unit.sweeps.to_settle()
        track = partial(self._tracking.show, world=self._world)
        try:
            each(unsettled, track, loop=DUTY, named="sweep_id", meter=self._world.meter)
        except TrackerUnreachable as error:
            log.info("sweeps.not_tracked", why=str(error))


def _end_in_words(job: Job) -> str:
    code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
    return f"{job.state}{code} before the search was closed" + (
        f" ({job.message})" if job.message else ""
    )
