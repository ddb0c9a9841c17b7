"""Queued runs become jobs: when their teacher is trained and a node has room for them.

Ray is never asked to hold a queue: a job that waits inside of Ray cannot be stopped (ray#58353).
"""

from dataclasses import replace

from configs.spec import Resources, RunTeacher
from service.domain.errors import ClusterUnreachable, DatasetNotFound, TeacherNotFound
from service.domain.plan import fits
from service.domain.ports import Node
from service.domain.runs import Run
from service.domain.states import RunState
from service.usecases.attempts import fail_queued_run, note_waiting, start_attempt
from service.usecases.runs import show_run
from service.usecases.world import World


def submit_queued(world: World) -> None:
    """Start every queued run that can start now; say of the others what they wait for."""
    with world.store.begin() as unit:
        queued = unit.runs.in_states(RunState.QUEUED)
        starting = unit.runs.in_states(RunState.STARTING)
    if not queued:
        return
    try:
        nodes = world.cluster.nodes()
    except ClusterUnreachable as error:
        for run in queued:
            note_waiting(run, why=f"Ray: {error}", world=world)
        raise
    for run in starting:
        # Ray counts a job's resources only once its driver is placed.
        nodes = _less(nodes, run.spec.resources) or nodes
    for run in queued:
        if _is_ready(run, world=world):
            nodes = _start_if_room(run, nodes, world=world)


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


def _start_if_room(run: Run, nodes: tuple[Node, ...], *, world: World) -> tuple[Node, ...]:
    asked = run.spec.resources
    left = _less(nodes, asked)
    if left is None:
        possible = any(fits(asked, node=node, total=True) for node in nodes)
        what = f"{asked.num_cpus} CPUs and {asked.num_gpus} GPUs on one node"
        why = f"{what} to become free" if possible else f"a node with {what}; the cluster has none"
        note_waiting(run, why=why, world=world)
        return nodes
    try:
        start_attempt(run.id, world=world)
    except (DatasetNotFound, TeacherNotFound) as error:
        fail_queued_run(run, message=str(error), world=world)
    return left


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
