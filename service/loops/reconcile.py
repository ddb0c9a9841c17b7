"""Our rows against Ray's truth: after any restart, every run is found again.

"Ray does not answer" is not "the job is gone", and "Ray does not know it" is not "its processes are
dead": a driver on a worker node outlives its head for a while, so silence decides. It is measured
on our own clock, from the moment we first saw a word that no newer one has followed: neither an
outage of ours nor a clock of another machine that is wrong makes a run look silent.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.domain.ports import Job
from service.domain.repositories.runs import LeasedRun
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.loops.base import for_each_isolated
from service.usecases.attempts.finish import end_attempt, has_left_pack, mark_stalled
from service.usecases.attempts.packs import submit_job
from service.usecases.attempts.records import poll_spool
from service.usecases.attempts.start import mark_running, record_node
from service.usecases.context import Context

MAX_GAP_S = 30.0
"""A pause between two turns after which we have not been listening: a laptop asleep."""

_GIVE_UP_AFTER_STOP_S = 90.0
"""Beyond the stop's own grace. A job that waits inside of Ray cannot be stopped (ray#58353)."""

_STOP_EVERY_S = 10.0

log = structlog.get_logger(__name__)


@dataclass
class _Watch:
    """What we have seen of an attempt."""

    last_seen_at: datetime | None
    """Its last word, as the row says it."""

    since: datetime
    """When we saw that first."""

    is_node_known: bool = False
    has_asked_for_logs: bool = False
    stopped_at: datetime | None = None


class Reconciler:
    """Looks at the job of every run that has one and that no other service looks after."""

    def __init__(self, ctx: Context, *, max_gap_s: float = MAX_GAP_S) -> None:
        self._world = ctx
        self._deaf_after_s = max_gap_s
        self._last_turn_at = ctx.clock.now()
        self._watches: dict[str, _Watch] = {}

    def run_once(self) -> None:
        """One look at each."""
        now = self._world.clock.now()
        if (now - self._last_turn_at).total_seconds() > self._deaf_after_s:
            self._watches.clear()
        claims = self._claim(now)
        active = {claim.run.submission_id for claim in claims}
        self._watches = {job: seen for job, seen in self._watches.items() if job in active}
        try:
            for_each_isolated(
                [claim.run for claim in claims],
                self._reconcile,
                loop="reconcile",
                counters=self._world.counters,
            )
        finally:
            self._last_turn_at = self._world.clock.now()

    def _claim(self, now: datetime) -> list[LeasedRun]:
        owner, until = self._world.owner, now + timedelta(seconds=self._world.policy.lease_s)
        with self._world.store.transaction() as uow:
            claims = uow.runs.lease(
                RunState.STARTING, RunState.RUNNING, owner=owner, now=now, until=until
            )
            for claim in claims:
                if claim.previous_owner is not None:
                    details = f"Looked after by {owner} instead of {claim.previous_owner}."
                    uow.events.add(Event(claim.run.id, now, "service", "lease", details))
                    self._world.counters.count("leases_taken_over")
        return claims

    def _reconcile(self, run: Run) -> None:
        self._listen(run)
        job = self._world.cluster.get_job(run.job_id)
        if job is None:
            self._without_job(run)
        elif job.is_over:
            self._end(run, job)
        else:
            self._with_live_job(run, job)

    def _listen(self, run: Run) -> None:
        seen = self._watches.get(run.submission_id)
        if seen is None:
            self._watches[run.submission_id] = _Watch(run.last_seen_at, self._world.clock.now())
        elif seen.last_seen_at != run.last_seen_at:
            # It came after our last look, and we look often.
            seen.last_seen_at, seen.since = run.last_seen_at, self._last_turn_at

    def _without_job(self, run: Run) -> None:
        """It was never submitted, or Ray has forgotten it."""
        is_new = run.last_seen_at is None and run.state is RunState.STARTING
        is_lost = self._silence_s(run) > self._world.policy.lost_timeout_s
        if is_lost or (is_new and run.stop_kind is not None):
            self._end(run, None)
        elif is_new:
            # We died between writing the attempt and submitting it.
            submit_job(run, ctx=self._world)

    def _with_live_job(self, run: Run, job: Job) -> None:
        if run.state is RunState.STARTING and job.state == "running":
            mark_running(run, ctx=self._world)
        self._note_node_once(run, job)
        if has_left_pack(run, ctx=self._world):
            self._end(run, job)
            return
        silence_s = self._silence_s(run)
        if silence_s > self._world.policy.lost_timeout_s:
            self._ask_for_logs_once(run)
        if silence_s > self._world.policy.stall_timeout_s and mark_stalled(run, ctx=self._world):
            self._stop(run)
        elif run.stop_requested_at is not None:
            self._climb_the_stop_ladder(run, job, asked_at=run.stop_requested_at)

    def _climb_the_stop_ladder(self, run: Run, job: Job, *, asked_at: datetime) -> None:
        """Asked first, then stopped; whoever even then stays is given up, and swept away."""
        waited_s = (self._world.clock.now() - asked_at).total_seconds()
        grace_s = self._world.policy.stop_grace_s
        if waited_s > grace_s + _GIVE_UP_AFTER_STOP_S:
            self._end(run, job)
        elif waited_s > grace_s:
            self._stop(run)

    def _stop(self, run: Run) -> None:
        seen, now = self._watches[run.submission_id], self._world.clock.now()
        if not self._are_all_to_leave(run):
            return
        if seen.stopped_at is None or (now - seen.stopped_at).total_seconds() > _STOP_EVERY_S:
            self._world.cluster.stop(run.job_id)
            seen.stopped_at = now

    def _are_all_to_leave(self, run: Run) -> bool:
        """Whether nobody in its job is wanted any more: who goes on keeps a pack's job alive."""
        if run.pack_job is None:
            return True
        with self._world.store.transaction() as uow:
            return all(one.stop_requested_at is not None for one in uow.runs.of_pack(run.pack_job))

    def _note_node_once(self, run: Run, job: Job) -> None:
        seen = self._watches[run.submission_id]
        if job.node_id is not None and not seen.is_node_known:
            record_node(run, node_id=job.node_id, ctx=self._world)
            seen.is_node_known = True

    def _ask_for_logs_once(self, run: Run) -> None:
        # This wakes a head that shows a dead job as running since its restart (ray#65037).
        seen = self._watches[run.submission_id]
        if not seen.has_asked_for_logs:
            seen.has_asked_for_logs = True
            self._world.cluster.logs(run.job_id)

    def _end(self, run: Run, job: Job | None) -> None:
        ended = end_attempt(run, job, ctx=self._world)
        log.info("attempt.ended", run_id=run.id, attempt=run.attempt, state=ended.state)

    def _silence_s(self, run: Run) -> float:
        """How long nothing was heard; a long silence is broken by what is new on the disk."""
        seen, now = self._watches[run.submission_id], self._world.clock.now()
        silence_s = (now - seen.since).total_seconds()
        if silence_s > self._world.policy.lost_timeout_s and poll_spool(run.id, ctx=self._world):
            seen.since = now
            return 0.0
        return silence_s
