"""Queued runs: their dependencies, reason to wait and queue position, and unstartable ones."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.spec.run import RunTeacher
from service.domain.errors import CheckpointMissing, DependencyFailed, NotFound
from service.domain.planning.references import references_of
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event, EventKind, Run, transition
from service.domain.scheduling.queue import WaitDecision
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.runs.queries import get_run
from service.usecases.runs.transitions import record_transition


def fail_queued_run(run: Run, error: NotFound, *, ctx: Context) -> None:
    """Fail a queued run that can never start, because something it needs is missing."""
    now, message = ctx.clock.now(), str(error)
    is_dependency = isinstance(error, DependencyFailed | CheckpointMissing)
    reason = FailureReason.DEPENDENCY_FAILED if is_dependency else FailureReason.INVALID_SPEC
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        if current.state is not RunState.QUEUED:
            return
        failed = replace(
            transition(current, RunState.FAILED, at=now), reason=reason, message=message
        )
        record_transition(uow, current, failed, actor="service", details=message, reason=reason)


def record_waits(waits: Sequence[WaitDecision], *, ctx: Context) -> None:
    """Store the queue position and the reason of waiting runs; a new reason adds an event."""
    changed = [wait for wait in waits if _has_changed(wait.run, wait)]
    if not changed:
        return
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        for wait in changed:
            _record_wait(uow, wait, at=now)


def _record_wait(uow: UnitOfWork, wait: WaitDecision, *, at: datetime) -> None:
    current = uow.runs.get_for_update(wait.run.id)
    if current.state is not RunState.QUEUED or not _has_changed(current, wait):
        return
    queue = replace(current.queue, waiting_for=wait.why, position=wait.position)
    uow.runs.save(replace(current, queue=queue))
    if current.queue.waiting_for != wait.why:
        uow.events.add(Event(current.id, at, "queue", EventKind.WAITING, wait.why))


def _has_changed(run: Run, wait: WaitDecision) -> bool:
    return (run.queue.waiting_for, run.queue.position) != (wait.why, wait.position)


def find_missing_dependency(run: Run, *, ctx: Context) -> str | None:
    """Describe the run whose checkpoint a run waits for; `None` if nothing is missing.

    Raises `DependencyFailed` or `CheckpointMissing` if the checkpoint will never exist.
    """
    references = references_of(run.spec)
    if not isinstance(references.model, RunTeacher) or run.attempt > 0:
        return None
    field_name = references.model_field
    dependency = get_run(references.model.run, ctx=ctx)
    if dependency.is_over and dependency.state is not RunState.SUCCEEDED:
        raise DependencyFailed(field_name, dependency.id, dependency.state)
    if not dependency.is_over:
        return f"its {field_name}, run {dependency.id}"
    file = RunFile.BEST if references.model.checkpoint == "best" else RunFile.LAST
    if not ctx.files.has(ctx.files.run_dir(dependency.id) / file):
        raise CheckpointMissing(field_name, dependency.id, file)
    return None
