"""Queued runs become jobs: when their teacher is trained and a node has room for them.

Ray is never asked to hold a queue: a job that waits inside of Ray cannot be stopped (ray#58353).
"""

from dataclasses import dataclass, replace
from functools import partial

from configs.spec import Resources, RunTeacher
from service.domain.errors import ClusterUnreachable, NotFound
from service.domain.plan import fits
from service.domain.ports import Node
from service.domain.runs import Run
from service.domain.states import RunState
from service.loops.base import each
from service.usecases.attempts import fail_queued_run, note_waiting, start_attempt
from service.usecases.runs import show_run
from service.usecases.world import World

_COUNTED_AFTER_S = 6.0
"""Ray counts what is used of its nodes every 5 s: until then we keep the count ourselves."""


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
            nodes = _less(nodes, run.spec.resources) or nodes
    each(queued, partial(_submit, room=_Room(nodes), world=world), loop="submit")


def _submit(run: Run, *, room: _Room, world: World) -> None:
    if _is_ready(run, world=world):
        _start_if_room(run, room, world=world)


def _is_not_counted_yet(run: Run, *, world: World) -> bool:
    age_s = (world.clock.now() - run.changed_at).total_seconds()
    return run.state is RunState.STARTING or age_s < _COUNTED_AFTER_S


def _is_ready(run: Run, *, world: World) -> bool:
    teacher = run.spec.teacher
    if not isinstance(teacher, RunTeacher):
        return True
    teacher_run = show_run(teacher.run, world=world)
    if teacher_run.state is RunState.SUCCEEDED:
        return True
    if teacher_run.is_over:
        message = f"Its teacher, run {teacher_run.id}, is {teacher_run.state}."
        fail_queued_run(run, message=message, world=world)
    else:
        note_waiting(run, why=f"its teacher, run {teacher_run.id}", world=world)
    return False


def _start_if_room(run: Run, room: _Room, *, world: World) -> None:
    asked = run.spec.resources
    left = _less(room.nodes, asked)
    if left is None:
        possible = any(fits(asked, node=node, total=True) for node in room.nodes)
        what = f"{asked.num_cpus} CPUs and {asked.num_gpus} GPUs on one node"
        why = f"{what} to become free" if possible else f"a node with {what}; the cluster has none"
        note_waiting(run, why=why, world=world)
        return
    room.nodes = left
    try:
        start_attempt(run.id, world=world)
    except NotFound as error:
        fail_queued_run(run, message=str(error), world=world)


def _less(nodes: tuple[Node, ...], asked: Resources) -> tuple[Node, ...] | None:
    """The nodes with room for `asked` taken from the first that has it; none if no node has."""
    for index, node in enumerate(nodes):
        if fits(asked, node=node, total=False):
            smaller = replace(
                node,
                free_cpus=node.free_cpus - asked.num_cpus,
                free_gpus=node.free_gpus - asked.num_gpus,
            )
            return (*nodes[:index], smaller, *nodes[index + 1 :])
    return None
