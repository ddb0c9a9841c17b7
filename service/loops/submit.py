"""Queued runs become jobs: when their teacher is trained and there is room for them.

Every process needs a place of its own on some node. Ray is never asked to hold a queue: a job that
waits inside of Ray cannot be stopped (ray#58353).
"""

from dataclasses import dataclass
from functools import partial

from service.domain.errors import ClusterUnreachable, NotFound
from service.domain.ports import Node
from service.domain.references import references_of
from service.domain.room import in_words, less, places, processes_now
from service.domain.runs import Run
from service.domain.states import RunState
from service.loops.base import each
from service.usecases.attempts import (
    fail_queued_run,
    note_waiting,
    processes_of,
    start_attempt,
)
from service.usecases.runs import show_run
from service.usecases.world import World

_COUNTED_AFTER_S = 6.0
"""Ray counts what is used of its nodes every 5 s: until then we keep the count ourselves."""

_GROUP_COUNTED_AFTER_S = 60.0
"""A driver has to start before its processes take their places: at the latest after so long."""


@dataclass
class _Room:
    """What is free, less what was started in this turn."""

    nodes: tuple[Node, ...]


def submit_queued(world: World) -> None:
    """Start every queued run that can start now; say of the others what they wait for."""
    with world.store.begin() as unit:
        queued = unit.runs.in_states(RunState.QUEUED)
        active = unit.runs.in_states(RunState.STARTING, RunState.RUNNING)
    if not queued:
        return
    try:
        nodes = world.cluster.nodes()
    except ClusterUnreachable as error:
        for run in queued:
            note_waiting(run, why=f"Ray: {error}", world=world)
        raise
    for run in active:
        if _is_not_counted_yet(run, world=world):
            taken = processes_of(run, world=world)
            nodes = less(nodes, run.spec.resources, processes=taken)
    each(queued, partial(_submit, room=_Room(nodes), world=world), loop="submit")


def _submit(run: Run, *, room: _Room, world: World) -> None:
    if _is_ready(run, world=world):
        _start_if_room(run, room, world=world)


def _is_not_counted_yet(run: Run, *, world: World) -> bool:
    age_s = _age_s(run, world=world)
    is_silent_group = run.spec.resources.processes > 1 and run.heard_at is None
    longest_s = _GROUP_COUNTED_AFTER_S if is_silent_group else _COUNTED_AFTER_S
    return run.state is RunState.STARTING or age_s < longest_s


def _is_ready(run: Run, *, world: World) -> bool:
    references = references_of(run.spec)
    if references.run_id is None:
        return True
    needed = show_run(references.run_id, world=world)
    if needed.state is RunState.SUCCEEDED:
        return True
    what = f"its {references.model_field}, run {needed.id}"
    if needed.is_over:
        message = f"{what.capitalize()}, is {needed.state}."
        fail_queued_run(run, message=message, world=world)
    else:
        note_waiting(run, why=what, world=world)
    return False


def _start_if_room(run: Run, room: _Room, *, world: World) -> None:
    asked = run.spec.resources
    processes = processes_now(
        run.spec,
        room=places(asked, room.nodes, total=False),
        may_be_fewer=_may_be_fewer(run, world=world),
    )
    if processes is None:
        note_waiting(run, why=_why_it_waits(run, room.nodes), world=world)
        return
    room.nodes = less(room.nodes, asked, processes=processes)
    try:
        start_attempt(run.id, processes=processes, world=world)
    except NotFound as error:
        fail_queued_run(run, message=str(error), world=world)


def _may_be_fewer(run: Run, *, world: World) -> bool:
    """The first attempt waits for all processes, a later one only for a while."""
    return run.attempt > 0 and _age_s(run, world=world) >= world.rules.fewer_after_s


def _why_it_waits(run: Run, nodes: tuple[Node, ...]) -> str:
    asked = run.spec.resources
    possible = places(asked, nodes, total=True)
    if possible >= asked.processes:
        return f"{in_words(asked)} to become free"
    has = "none" if possible == 0 else f"room for {possible}"
    return f"{in_words(asked)}; the cluster has {has}"


def _age_s(run: Run, *, world: World) -> float:
    return (world.clock.now() - run.changed_at).total_seconds()
