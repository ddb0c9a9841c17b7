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
from service.domain.scheduling.capacity import less
from service.domain.scheduling.node_health import AVOIDED_FOR_S, nodes_to_avoid
from service.domain.scheduling.packs import in_packs, mergeable
from service.domain.scheduling.queue import (
    Holding,
    Left,
    Preempt,
    Situation,
    Start,
    Wait,
    Waiting,
    decide,
)
from service.domain.states import RunState
from service.loops.base import each, is_on_duty
from service.usecases.attempts.finish import ask_to_leave
from service.usecases.attempts.packs import start_pack
from service.usecases.attempts.start import start_attempt
from service.usecases.attempts.waiting import fail_queued_run, note_waiting, what_it_waits_for
from service.usecases.context import World
from service.usecases.nodes import cluster_nodes

_DUTY = "queue"
_COUNTED_AFTER_S = 6.0
"""Ray counts what is used of its nodes every 5 s: until then we keep the count ourselves."""

_GROUP_COUNTED_AFTER_S = 60.0
"""A driver has to start before its processes take their places: at the latest after so long."""


def submit_queued(world: World) -> None:
    """Start every queued run that can start now; say of the others what they wait for."""
    queued = _queued_if_on_duty(world)
    if not queued:
        return
    try:
        nodes = cluster_nodes(world)
    except ClusterUnreachable as error:
        waits = [Wait(run, at, f"Ray: {error}") for at, run in enumerate(queued, start=1)]
        note_waiting(waits, world=world)
        raise
    waiting = [found for run in queued if (found := _waiting(run, world=world)) is not None]
    waiting = in_packs(waiting, now=world.clock.now())
    situation = _situation(waiting, nodes, world=world)
    decisions = decide(situation)
    note_waiting([one for one in decisions if isinstance(one, Wait)], world=world)
    for one in decisions:
        if isinstance(one, Preempt):
            ask_to_leave(one.run.id, makes_room_for=one.makes_room_for, world=world)
    starts = {one.run.id: one for one in decisions if isinstance(one, Start)}
    if not any(isinstance(one, Preempt) for one in decisions):
        _merge_packs(situation, starts, world=world)
    each(
        [start.run for start in starts.values()],
        lambda run: _start(starts[run.id], world=world),
        loop="submit",
    )


def _merge_packs(situation: Situation, starts: Mapping[str, Start], *, world: World) -> None:
    """Where somebody waits for room, the survivors of two packs make some by going together."""
    waits = (one.run for one in situation.waiting if one.held_back is None)
    waiting = next((run for run in waits if run.id not in starts), None)
    pair = None if waiting is None else mergeable(situation.holding, now=situation.now)
    if waiting is None or pair is None:
        return
    for held in pair:
        for run in (held.run, *held.beside):
            ask_to_leave(run.id, makes_room_for=waiting, joins=True, world=world)


def _queued_if_on_duty(world: World) -> list[Run]:
    with world.store.begin() as unit:
        if not is_on_duty(unit, _DUTY, world=world):
            return []
        return unit.runs.in_states(RunState.QUEUED)


def _waiting(run: Run, *, world: World) -> Waiting | None:
    """The run as the queue sees it; none if it never can start, which is told."""
    now = world.clock.now()
    try:
        held_back = what_it_waits_for(run, world=world)
    except NotFound as error:
        fail_queued_run(run, error, world=world)
        return None
    if held_back is None and run.not_before is not None and run.not_before > now:
        held_back = f"its pause after {run.reason} to end at {run.not_before:%H:%M:%S} UTC"
    has_tried = run.attempt > 0
    return Waiting(
        run, held_back, may_be_fewer=has_tried and _age_s(run, now) >= world.rules.fewer_after_s
    )


def _situation(waiting: list[Waiting], nodes: tuple[Node, ...], *, world: World) -> Situation:
    now = world.clock.now()
    with world.store.begin() as unit:
        active = unit.runs.in_states(RunState.STARTING, RunState.RUNNING)
        attempts = unit.attempts.current()
        ended = unit.attempts.ended_since(now - timedelta(seconds=AVOIDED_FOR_S))
        projects = {project.name: project for project in unit.projects.all()}
    holding = [_holding(runs, attempts) for runs in _by_job(active)]
    for held in holding:
        if _is_not_counted_yet(held.run, now):
            nodes = less(nodes, held.run.spec.resources, processes=held.processes)
    return Situation(
        now=now,
        nodes=nodes,
        waiting=waiting,
        holding=holding,
        left=_all_left([one for one in ended if _is_fresh(one, now)], active),
        projects=projects,
        avoid=nodes_to_avoid(ended, now=now),
        patience_s=world.rules.patience_s,
    )


def _by_job(active: Sequence[Run]) -> list[list[Run]]:
    """Runs that share a job share its room."""
    jobs: dict[str, list[Run]] = {}
    for run in active:
        jobs.setdefault(run.job_id, []).append(run)
    return list(jobs.values())


def _holding(runs: Sequence[Run], attempts: Mapping[str, Attempt]) -> Holding:
    run, *beside = runs
    attempt = attempts.get(run.id)
    if attempt is None:
        return Holding(run, run.spec.resources.processes, beside=tuple(beside))
    node_id = attempt.node_id if attempt.processes == 1 else None
    return Holding(run, attempt.processes, node_id, tuple(beside))


def _all_left(ended: Sequence[Attempt], active: Sequence[Run]) -> list[Left]:
    """Room that is free now: a pack's is when its last member has left."""
    go_on = {run.job_id for run in active}
    by_job = {one.pack_job or one.submission_id: one for one in ended}
    return [_left(attempt) for job, attempt in by_job.items() if job not in go_on]


def _is_fresh(attempt: Attempt, now: datetime) -> bool:
    ended_at = attempt.ended_at
    return ended_at is not None and (now - ended_at).total_seconds() < _COUNTED_AFTER_S


def _left(attempt: Attempt) -> Left:
    asked = Resources(num_cpus=attempt.num_cpus, num_gpus=attempt.num_gpus)
    return Left(asked, attempt.processes, attempt.node_id if attempt.processes == 1 else None)


def _is_not_counted_yet(run: Run, now: datetime) -> bool:
    is_silent_group = run.spec.resources.processes > 1 and run.heard_at is None
    longest_s = _GROUP_COUNTED_AFTER_S if is_silent_group else _COUNTED_AFTER_S
    return run.state is RunState.STARTING or _age_s(run, now) < longest_s


def _start(start: Start, *, world: World) -> None:
    if start.beside:
        start_pack((start.run, *start.beside), avoid=start.avoid, world=world)
        return
    try:
        start_attempt(start.run.id, processes=start.processes, avoid=start.avoid, world=world)
    except NotFound as error:
        fail_queued_run(start.run, error, world=world)


def _age_s(run: Run, now: datetime) -> float:
    return (now - run.changed_at).total_seconds()
