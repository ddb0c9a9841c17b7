"""Schedules queued runs: starts those that may start, and records why the others wait.

Ray's own queue is not used: a job pending inside Ray cannot be stopped (ray#58353). Only the leader
schedules, because a decision depends on all runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from configs.spec.compute import Resources
from service.domain.errors.requests import NotFound
from service.domain.errors.systems import ClusterUnreachable
from service.domain.ports import Node
from service.domain.runs import Attempt, Run
from service.domain.scheduling.node_health import AVOIDANCE_WINDOW_S, find_nodes_to_avoid
from service.domain.scheduling.packs import PackKeys, find_mergeable_packs, group_into_packs
from service.domain.scheduling.queue import (
    PreemptDecision,
    StartDecision,
    WaitDecision,
    schedule_runs,
)
from service.domain.scheduling.slots import FreeCapacity
from service.domain.scheduling.snapshot import (
    ClusterSnapshot,
    QueuedRun,
    ReleasedCapacity,
    RunningRun,
)
from service.domain.states import RunState
from service.loops.base import for_each_isolated
from service.usecases.attempts.finish import preempt_run
from service.usecases.attempts.packs import start_pack
from service.usecases.attempts.queue import QueueReader
from service.usecases.attempts.start import start_attempt
from service.usecases.attempts.waiting import (
    fail_queued_run,
    find_dependency,
    find_missing_dependency,
    record_waits,
)
from service.usecases.context import Context
from service.usecases.leadership import Leadership, LeadershipLost
from service.usecases.nodes import list_nodes

_LEASE = "queue"
_USAGE_DELAY_S = 6.0
"""Ray updates the usage of its nodes every 5 s: until then the scheduler tracks it itself."""

_GROUP_USAGE_DELAY_S = 60.0
"""The same for runs of several processes, whose driver must first start and place them."""

log = structlog.get_logger(__name__)


class Submitter:
    """Schedules the queue while this process is its leader."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._leadership = Leadership(_LEASE, ctx)
        self._reader = QueueReader(ctx)
        self._pack_keys = PackKeys()
        self._lacks_capacity = False

    def can_start_more(self) -> bool:
        """Whether a run that is queued now could start at once, as far as the last turn knows.

        If runs wait for capacity, it would wait with them.
        """
        return not self._lacks_capacity

    def run_once(self) -> None:
        """Start every queued run that can start now; record what the others wait for.

        The turn ends when another process becomes the leader.
        """
        if not self._leadership.acquire():
            self._reader.clear()
            return
        try:
            self._schedule()
        except LeadershipLost as error:
            log.warning("queue.leadership_lost", reason=str(error))

    def _schedule(self) -> None:
        self._lacks_capacity = False
        queued = self._reader.read(self._leadership)
        if not queued:
            return
        snapshot = self._observe(queued)
        active = (running.run for running in snapshot.running)
        self._pack_keys.retain([run.id for run in (*queued, *active) if run.pack.size > 1])
        decisions = schedule_runs(snapshot)
        waits = [item for item in decisions if isinstance(item, WaitDecision)]
        self._record_waits(waits)
        self._lacks_capacity = any(wait.needs_capacity for wait in waits)
        preemptions = [item for item in decisions if isinstance(item, PreemptDecision)]
        for preemption in preemptions:
            self._preempt(preemption.run, preemptor=preemption.preempted_for)
        starts = {item.run.id: item for item in decisions if isinstance(item, StartDecision)}
        if not preemptions:
            self._merge_packs(snapshot, starts)
        for_each_isolated(
            [start.run for start in starts.values()],
            lambda run: self._start_run(starts[run.id]),
            loop="submit",
        )

    def _observe(self, queued: Sequence[Run]) -> ClusterSnapshot:
        """The snapshot to decide on; without nodes all wait, and `ClusterUnreachable` is raised."""
        try:
            nodes = list_nodes(self._ctx)
        except ClusterUnreachable as error:
            waits = [
                WaitDecision(run, position, f"the cluster: {error}")
                for position, run in enumerate(queued, start=1)
            ]
            self._record_waits(waits)
            raise
        now = self._ctx.clock.now()
        startable = list(self._build_queued_runs(queued))
        packs = group_into_packs(startable, now=now, keys=self._pack_keys)
        return _take_snapshot(packs, nodes, ctx=self._ctx)

    def _build_queued_runs(self, queued: Sequence[Run]) -> Iterator[QueuedRun]:
        """The scheduler's view of the queued runs, after failing those that can never start."""
        dependencies = [find_dependency(run) for run in queued]
        states = self._reader.read_states(set(filter(None, dependencies)))
        for run, dependency in zip(queued, dependencies, strict=True):
            try:
                blocked_by = (
                    None
                    if dependency is None
                    else find_missing_dependency(run, states=states, ctx=self._ctx)
                )
            except NotFound as error:
                self._leadership.renew()
                fail_queued_run(run, error, ctx=self._ctx)
                continue
            yield _build_queued_run(run, blocked_by, ctx=self._ctx)

    def _record_waits(self, waits: Sequence[WaitDecision]) -> None:
        guard = self._leadership.require
        record_waits(waits, stored=self._reader.reasons, guard=guard, ctx=self._ctx)

    def _merge_packs(self, snapshot: ClusterSnapshot, starts: Mapping[str, StartDecision]) -> None:
        """If a run waits for capacity, preempt two partly finished packs to resume them as one."""
        unblocked = (queued.run for queued in snapshot.queued if queued.blocked_by is None)
        preemptor = next((run for run in unblocked if run.id not in starts), None)
        if preemptor is None:
            return
        pair = find_mergeable_packs(snapshot.running, now=snapshot.now, keys=self._pack_keys)
        for pack in pair or ():
            for run in (pack.run, *pack.packmates):
                self._preempt(run, preemptor=preemptor, is_merge=True)

    def _preempt(self, run: Run, *, preemptor: Run, is_merge: bool = False) -> None:
        guard = self._leadership.require
        preempt_run(run.id, preemptor=preemptor, is_merge=is_merge, guard=guard, ctx=self._ctx)

    def _start_run(self, start: StartDecision) -> None:
        guard, ctx = self._leadership.require, self._ctx
        if start.packmates:
            runs = (start.run, *start.packmates)
            start_pack(runs, avoid=start.avoid, guard=guard, ctx=ctx)
            return
        try:
            start_attempt(
                start.run.id, processes=start.processes, avoid=start.avoid, guard=guard, ctx=ctx
            )
        except NotFound as error:
            fail_queued_run(start.run, error, ctx=ctx)


def _build_queued_run(run: Run, blocked_by: str | None, *, ctx: Context) -> QueuedRun:
    now = ctx.clock.now()
    not_before = run.retries.not_before
    if blocked_by is None and not_before is not None and not_before > now:
        blocked_by = f"its retry delay after {run.reason}, until {not_before:%H:%M:%S} UTC"
    has_attempts = run.attempt > 0
    return QueuedRun(
        run,
        blocked_by,
        allows_fewer=has_attempts and _time_in_state_s(run, now) >= ctx.policy.shrink_timeout_s,
    )


def _take_snapshot(
    queued: Sequence[QueuedRun], nodes: tuple[Node, ...], *, ctx: Context
) -> ClusterSnapshot:
    now = ctx.clock.now()
    with ctx.store.snapshot() as uow:
        active = uow.runs.in_states(RunState.STARTING, RunState.RUNNING)
        attempts = uow.attempts.current()
        ended = uow.attempts.ended_since(now - timedelta(seconds=AVOIDANCE_WINDOW_S))
        projects = {project.name: project for project in uow.projects.all()}
    running = [_build_running_run(runs, attempts) for runs in _group_by_job(active)]
    free = FreeCapacity(nodes)
    for item in running:
        if _is_usage_pending(item.run, now):
            free.reserve(item.run.spec.resources, processes=item.processes)
    return ClusterSnapshot(
        now=now,
        nodes=free.to_nodes(),
        queued=queued,
        running=running,
        released=_list_released([item for item in ended if _is_recent(item, now)], active),
        projects=projects,
        avoid=find_nodes_to_avoid(ended, now=now),
        backfill_timeout_s=ctx.policy.backfill_timeout_s,
    )


def _group_by_job(active: Sequence[Run]) -> list[list[Run]]:
    """Group runs by their job: the runs of a pack share its resources."""
    jobs: dict[str, list[Run]] = {}
    for run in active:
        jobs.setdefault(run.job_id, []).append(run)
    return list(jobs.values())


def _build_running_run(runs: Sequence[Run], attempts: Mapping[str, Attempt]) -> RunningRun:
    run, *packmates = runs
    attempt = attempts.get(run.id)
    if attempt is None:
        return RunningRun(run, run.spec.resources.processes, packmates=tuple(packmates))
    node_id = attempt.node_id if attempt.processes == 1 else None
    return RunningRun(run, attempt.processes, node_id, tuple(packmates))


def _list_released(ended: Sequence[Attempt], active: Sequence[Run]) -> list[ReleasedCapacity]:
    """Resources of recently ended jobs; those of a pack are free only when its last run ends."""
    active_jobs = {run.job_id for run in active}
    last_by_job = {attempt.pack_job or attempt.submission_id: attempt for attempt in ended}
    return [
        _build_released(attempt) for job, attempt in last_by_job.items() if job not in active_jobs
    ]


def _is_recent(attempt: Attempt, now: datetime) -> bool:
    ended_at = attempt.ended_at
    return ended_at is not None and (now - ended_at).total_seconds() < _USAGE_DELAY_S


def _build_released(attempt: Attempt) -> ReleasedCapacity:
    resources = Resources(num_cpus=attempt.num_cpus, num_gpus=attempt.num_gpus)
    return ReleasedCapacity(
        resources, attempt.processes, attempt.node_id if attempt.processes == 1 else None
    )


def _is_usage_pending(run: Run, now: datetime) -> bool:
    is_unreported_group = run.spec.resources.processes > 1 and run.ingest.last_seen_at is None
    delay_s = _GROUP_USAGE_DELAY_S if is_unreported_group else _USAGE_DELAY_S
    return run.state is RunState.STARTING or _time_in_state_s(run, now) < delay_s


def _time_in_state_s(run: Run, now: datetime) -> float:
    return (now - run.updated_at).total_seconds()
