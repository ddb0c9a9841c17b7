"""Runs that wait: why, at which place, and those that never can start."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.spec.run import RunTeacher
from service.domain.errors import CheckpointMissing, DependencyFailed, NotFound
from service.domain.planning.references import references_of
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Event, Run, move
from service.domain.scheduling.queue import Wait
from service.domain.states import RunState
from service.usecases.context import World
from service.usecases.runs.queries import show_run


def fail_queued_run(run: Run, error: NotFound, *, world: World) -> None:
    """End a run that can never start, for something that it needs is not there."""
    now, message = world.clock.now(), str(error)
    is_of_a_run = isinstance(error, DependencyFailed | CheckpointMissing)
    reason = FailureReason.DEPENDENCY_FAILED if is_of_a_run else FailureReason.INVALID_SPEC
    with world.store.begin() as unit:
        current = unit.runs.take(run.id)
        if current.state is not RunState.QUEUED:
            return
        failed = replace(move(current, RunState.FAILED, at=now), reason=reason, message=message)
        unit.runs.save(failed)
        unit.events.add(
            Event(run.id, now, "service", "moved", message, current.state, failed.state, reason)
        )


def note_waiting(waits: Sequence[Wait], *, world: World) -> None:
    """Say of every run that waits at which place, and once why."""
    changed = [wait for wait in waits if _is_news(wait.run, wait)]
    if not changed:
        return
    now = world.clock.now()
    with world.store.begin() as unit:
        for wait in changed:
            _note(unit, wait, at=now)


def _note(unit: Unit, wait: Wait, *, at: datetime) -> None:
    current = unit.runs.take(wait.run.id)
    if current.state is not RunState.QUEUED or not _is_news(current, wait):
        return
    unit.runs.save(replace(current, waiting_for=wait.why, queue_position=wait.position))
    if current.waiting_for != wait.why:
        unit.events.add(Event(current.id, at, "queue", "waiting", wait.why))


def _is_news(run: Run, wait: Wait) -> bool:
    return (run.waiting_for, run.queue_position) != (wait.why, wait.position)


def what_it_waits_for(run: Run, *, world: World) -> str | None:
    """The run whose checkpoint is needed, in words; none if nothing is missing.

    Raises `DependencyFailed` or `CheckpointMissing` if that checkpoint will never be there.
    """
    references = references_of(run.spec)
    if not isinstance(references.model, RunTeacher) or run.attempt > 0:
        return None
    what = references.model_field
    needed = show_run(references.model.run, world=world)
    if needed.is_over and needed.state is not RunState.SUCCEEDED:
        raise DependencyFailed(what, needed.id, needed.state)
    if not needed.is_over:
        return f"its {what}, run {needed.id}"
    file = RunFile.BEST if references.model.checkpoint == "best" else RunFile.LAST
    if not world.files.has(world.files.run_dir(needed.id) / file):
        raise CheckpointMissing(what, needed.id, file)
    return None
