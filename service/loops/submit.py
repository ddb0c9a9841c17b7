"""Queued runs become jobs: what may start, starts, and every other one knows why it waits.

Ray is never asked to hold a queue: a job that waits inside of Ray cannot be stopped (ray#58353).
One service process at a time decides, for a decision rests on all runs.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from configs.spec.compute import Resources
from service.domain.errors import ClusterUnreachable, NotFound
from service.domain.ports import Node
from service.domain.runs import Attempt, Run
from service.domain.scheduling.capacity import reserve
from service.domain.scheduling.node_health import AVOIDANCE_WINDOW_S, find_nodes_to_avoid
from service.domain.scheduling.packs import find_mergeable_packs, group_into_packs
from service.domain.scheduling.queue import (
    ClusterSnapshot,
    PreemptDecision,
    QueuedRun,
    ReleasedCapacity,
    RunningRun,
    StartDecision,
    WaitDecision,
    schedule_runs,
)
from service.domain.states import RunState
from service.loops.base import for_each_isolated, is_leader
from service.usecases.attempts.finish import preempt_run
from service.usecases.attempts.packs import start_pack
from service.usecases.attempts.start import start_attempt
from service.usecases.attempts.waiting import fail_queued_run, find_missing_dependency, record_waits
from service.usecases.context import Context
from service.usecases.nodes import list_nodes

_DUTY = "queue"
_COUNTED_AFTER_S = 6.0
"""Ray counts what is used of its nodes every 5 s: until then we keep the count ourselves."""

_GROUP_COUNTED_AFTER_S = 60.0
"""A driver has to start before its processes take their places: at the latest after so long."""


def submit_queued(ctx: Context) -> None:
    """Start every queued run that can start now; say of the others what they wait for."""
    queued = _queued_if_on_duty(ctx)
    if not queued:
        return
    try:
        nodes = list_nodes(ctx)
    except ClusterUnreachable as error:
        waits = [WaitDecision(run, at, f"Ray: {error}") for at, run in enumerate(queued, start=1)]
        record_waits(waits, ctx=ctx)
        raise
    waiting = [found for run in queued if (found := _waiting(run, ctx=ctx)) is not None]
    waiting = group_into_packs(waiting, now=ctx.clock.now())
    situation = _situation(waiting, nodes, ctx=ctx)
    decisions = schedule_runs(situation)
    record_waits([one for one in decisions if isinstance(one, WaitDecision)], ctx=ctx)
    for one in decisions:
        if isinstance(one, PreemptDecision):
            preempt_run(one.run.id, preemptor=one.preempted_for, ctx=ctx)
    starts = {one.run.id: one for one in decisions if isinstance(one, StartDecision)}
    if not any(isinstance(one, PreemptDecision) for one in decisions):
        _merge_packs(situation, starts, ctx=ctx)
    for_each_isolated(
        [start.run for start in starts.values()],
        lambda run: _start(starts[run.id], ctx=ctx),
        loop="submit",
    )


def _merge_packs(
    situation: ClusterSnapshot, starts: Mapping[str, StartDecision], *, ctx: Context
) -> None:
    """Where somebody waits for room, the survivors of two packs make some by going together."""
    waits = (one.run for one in situation.queued if one.blocked_by is None)
    waiting = next((run for run in waits if run.id not in starts), None)
    pair = None if waiting is None else find_mergeable_packs(situation.running, now=situation.now)
    if waiting is None or pair is None:
        return
    for held in pair:
        for run in (held.run, *held.packmates):
            preempt_run(run.id, preemptor=waiting, is_merge=True, ctx=ctx)


def _queued_if_on_duty(ctx: Context) -> list[Run]:
    with ctx.store.transaction() as uow:
        if not is_leader(uow, _DUTY, ctx=ctx):
            return []
        return uow.runs.in_states(RunState.QUEUED)


def _waiting(run: Run, *, ctx: Context) -> QueuedRun | None:
    """The run as the queue sees it; none if it never can start, which is told."""
    now = ctx.clock.now()
    try:
        held_back = find_missing_dependency(run, ctx=ctx)
    except NotFound as error:
        fail_queued_run(run, error, ctx=ctx)
        return None
    if held_back is None and run.not_before is not None and run.not_before > now:
        held_back = f"its pause after {run.reason} to end at {run.not_before:%H:%M:%S} UTC"
    has_tried = run.attempt > 0
    return QueuedRun(
        run, held_back, allows_fewer=has_tried and _age_s(run, now) >= ctx.policy.shrink_timeout_s
    )


def _situation(
    waiting: list[QueuedRun], nodes: tuple[Node, ...], *, ctx: Context
) -> ClusterSnapshot:
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        active = uow.runs.in_states(RunState.STARTING, RunState.RUNNING)
        attempts = uow.attempts.current()
        ended = uow.attempts.ended_since(now - timedelta(seconds=AVOIDANCE_WINDOW_S))
        projects = {project.name: project for project in uow.projects.all()}
    holding = [_holding(runs, attempts) for runs in _by_job(active)]
    for held in holding:
        if _is_not_counted_yet(held.run, now):
            nodes = reserve(nodes, held.run.spec.resources, processes=held.processes)
    return ClusterSnapshot(
        now=now,
        nodes=nodes,
        queued=waiting,
        running=holding,
        released=_all_left([one for one in ended if _is_fresh(one, now)], active),
        projects=projects,
        avoid=find_nodes_to_avoid(ended, now=now),
        backfill_timeout_s=ctx.policy.backfill_timeout_s,
    )


def _by_job(active: Sequence[Run]) -> list[list[Run]]:
    """Runs that share a job share its room."""
    jobs: dict[str, list[Run]] = {}
    for run in active:
        jobs.setdefault(run.job_id, []).append(run)
    return list(jobs.values())


def _holding(runs: Sequence[Run], attempts: Mapping[str, Attempt]) -> RunningRun:
    run, *beside = runs
    attempt = attempts.get(run.id)
    if attempt is None:
        return RunningRun(run, run.spec.resources.processes, packmates=tuple(beside))
    node_id = attempt.node_id if attempt.processes == 1 else None
    return RunningRun(run, attempt.processes, node_id, tuple(beside))


def _all_left(ended: Sequence[Attempt], active: Sequence[Run]) -> list[ReleasedCapacity]:
    """Room that is free now: a pack's is when its last member has left."""
    go_on = {run.job_id for run in active}
    by_job = {one.pack_job or one.submission_id: one for one in ended}
    return [_left(attempt) for job, attempt in by_job.items() if job not in go_on]


def _is_fresh(attempt: Attempt, now: datetime) -> bool:
    ended_at = attempt.ended_at
    return ended_at is not None and (now - ended_at).total_seconds() < _COUNTED_AFTER_S


def _left(attempt: Attempt) -> ReleasedCapacity:
    asked = Resources(num_cpus=attempt.num_cpus, num_gpus=attempt.num_gpus)
    return ReleasedCapacity(
        asked, attempt.processes, attempt.node_id if attempt.processes == 1 else None
    )


def _is_not_counted_yet(run: Run, now: datetime) -> bool:
    is_silent_group = run.spec.resources.processes > 1 and run.last_seen_at is None
    longest_s = _GROUP_COUNTED_AFTER_S if is_silent_group else _COUNTED_AFTER_S
    return run.state is RunState.STARTING or _age_s(run, now) < longest_s


def _start(start: StartDecision, *, ctx: Context) -> None:
    if start.packmates:
        start_pack((start.run, *start.packmates), avoid=start.avoid, ctx=ctx)
        return
    try:
        start_attempt(start.run.id, processes=start.processes, avoid=start.avoid, ctx=ctx)
    except NotFound as error:
        fail_queued_run(start.run, error, ctx=ctx)


def _age_s(run: Run, now: datetime) -> float:
    return (now - run.updated_at).total_seconds()
