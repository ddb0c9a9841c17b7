"""Runs that wait: why, at which place, and those that never can start."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.spec.run import RunTeacher
from service.domain.errors import CheckpointMissing, DependencyFailed, NotFound
from service.domain.planning.references import references_of
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event, Run, transition
from service.domain.scheduling.queue import WaitDecision
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.runs.queries import get_run


def fail_queued_run(run: Run, error: NotFound, *, ctx: Context) -> None:
    """End a run that can never start, for something that it needs is not there."""
    now, message = ctx.clock.now(), str(error)
    is_of_a_run = isinstance(error, DependencyFailed | CheckpointMissing)
    reason = FailureReason.DEPENDENCY_FAILED if is_of_a_run else FailureReason.INVALID_SPEC
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        if current.state is not RunState.QUEUED:
            return
        failed = replace(
            transition(current, RunState.FAILED, at=now), reason=reason, message=message
        )
        uow.runs.save(failed)
        uow.events.add(
            Event(run.id, now, "service", "moved", message, current.state, failed.state, reason)
        )


def record_waits(waits: Sequence[WaitDecision], *, ctx: Context) -> None:
    """Say of every run that waits at which place, and once why."""
    changed = [wait for wait in waits if _is_news(wait.run, wait)]
    if not changed:
        return
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        for wait in changed:
            _note(uow, wait, at=now)


def _note(uow: UnitOfWork, wait: WaitDecision, *, at: datetime) -> None:
    current = uow.runs.get_for_update(wait.run.id)
    if current.state is not RunState.QUEUED or not _is_news(current, wait):
        return
    uow.runs.save(replace(current, waiting_for=wait.why, queue_position=wait.position))
    if current.waiting_for != wait.why:
        uow.events.add(Event(current.id, at, "queue", "waiting", wait.why))


def _is_news(run: Run, wait: WaitDecision) -> bool:
    return (run.waiting_for, run.queue_position) != (wait.why, wait.position)


def find_missing_dependency(run: Run, *, ctx: Context) -> str | None:
    """The run whose checkpoint is needed, in words; none if nothing is missing.

    Raises `DependencyFailed` or `CheckpointMissing` if that checkpoint will never be there.
    """
    references = references_of(run.spec)
    if not isinstance(references.model, RunTeacher) or run.attempt > 0:
        return None
    what = references.model_field
    needed = get_run(references.model.run, ctx=ctx)
    if needed.is_over and needed.state is not RunState.SUCCEEDED:
        raise DependencyFailed(what, needed.id, needed.state)
    if not needed.is_over:
        return f"its {what}, run {needed.id}"
    file = RunFile.BEST if references.model.checkpoint == "best" else RunFile.LAST
    if not ctx.files.has(ctx.files.run_dir(needed.id) / file):
        raise CheckpointMissing(what, needed.id, file)
    return None
