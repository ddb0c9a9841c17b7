"""Our rows against Ray's truth: after any restart, every run is found again.

"Ray does not answer" is not "the job is gone", and "Ray does not know it" is not "its processes are
dead": a driver on a worker node outlives its head for a while, so silence decides. Silence counts
only while we listened: after an outage of ours, every worker gets its time to report again.
"""

from datetime import datetime

import structlog

from service.domain.policy import Job
from service.domain.runs import Run
from service.domain.states import RunState
from service.loops.base import each
from service.usecases.attempts import (
    end_attempt,
    hear_from_disk,
    mark_running,
    mark_stalled,
    submit_attempt,
)
from service.usecases.world import World

DEAF_AFTER_S = 30.0
"""A pause between two turns after which we have not been listening: a restart, a laptop asleep."""

_GIVE_UP_AFTER_STOP_S = 90.0
"""Beyond the stop's own grace. A job that waits inside of Ray cannot be stopped (ray#58353)."""

log = structlog.get_logger(__name__)


class Reconciler:
    """Looks at the job of every run that has one."""

    def __init__(self, world: World, *, deaf_after_s: float = DEAF_AFTER_S) -> None:
        self._world = world
        self._deaf_after_s = deaf_after_s
        self._listening_since = self._last_turn_at = world.clock.now()
        self._logs_asked: set[str] = set()

    def turn(self) -> None:
        """One look at each."""
        now = self._world.clock.now()
        if (now - self._last_turn_at).total_seconds() > self._deaf_after_s:
            self._listening_since = now
        with self._world.store.begin() as unit:
            active = unit.runs.in_states(RunState.STARTING, RunState.RUNNING)
        try:
            each(active, self._reconcile, loop="reconcile")
        finally:
            self._last_turn_at = self._world.clock.now()

    def _reconcile(self, run: Run) -> None:
        job = self._world.cluster.look(run.submission_id)
        if job is None:
            self._without_job(run)
        elif job.is_over:
            self._end(run, job)
        else:
            self._with_live_job(run, job)

    def _without_job(self, run: Run) -> None:
        """It was never submitted, or Ray has forgotten it."""
        is_new = run.heard_at is None and run.state is RunState.STARTING
        is_lost = self._silence_s(run) > self._world.rules.lost_after_s
        if is_lost or (is_new and run.desired == "cancelled"):
            self._end(run, None)
        elif is_new:
            # We died between writing the attempt and submitting it.
            submit_attempt(run, world=self._world)

    def _with_live_job(self, run: Run, job: Job) -> None:
        if run.state is RunState.STARTING and job.state == "running":
            mark_running(run, world=self._world)
        if self._is_stop_overdue(run, self._world.rules.stop_grace_s):
            self._world.cluster.stop(run.submission_id)
        silence_s = self._silence_s(run)
        if silence_s > self._world.rules.lost_after_s:
            self._ask_for_logs_once(run)
        if silence_s > self._world.rules.stall_after_s:
            self._end_stalled(run, job)

    def _end_stalled(self, run: Run, job: Job) -> None:
        """Stop a job of which nothing is heard; its end is seen at a later turn, or given up on."""
        longest_s = self._world.rules.stop_grace_s + _GIVE_UP_AFTER_STOP_S
        if self._is_stop_overdue(run, longest_s):
            self._end(run, job)
        elif mark_stalled(run, world=self._world):
            self._world.cluster.stop(run.submission_id)

    def _ask_for_logs_once(self, run: Run) -> None:
        # This wakes a head that shows a dead job as running since its restart (ray#65037).
        if run.submission_id not in self._logs_asked:
            self._logs_asked.add(run.submission_id)
            self._world.cluster.logs(run.submission_id)

    def _end(self, run: Run, job: Job | None) -> None:
        ended = end_attempt(run, job, world=self._world)
        self._logs_asked.discard(run.submission_id)
        log.info("attempt.ended", run_id=run.id, attempt=run.attempt, state=ended.state)

    def _silence_s(self, run: Run) -> float:
        """How long nothing was heard; a long silence is broken by what is new on the disk."""
        silence_s = _seconds(self._last_sign(run), self._world.clock.now())
        if silence_s > self._world.rules.lost_after_s and hear_from_disk(run.id, world=self._world):
            return 0.0
        return silence_s

    def _last_sign(self, run: Run) -> datetime:
        return max(run.heard_at or run.changed_at, self._listening_since)

    def _is_stop_overdue(self, run: Run, grace_s: float) -> bool:
        asked_at = run.stop_asked_at
        return asked_at is not None and _seconds(asked_at, self._world.clock.now()) > grace_s


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
