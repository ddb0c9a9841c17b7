"""Actions on existing runs: cancel, pause, resume, retry, set priority."""

from dataclasses import replace
from datetime import datetime

from service.domain.access import Caller
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.retention import FilesDeleted
from service.domain.run_actions import ActionRefused
from service.domain.runs import Event, Run, transition
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.usecases.context import Context
from service.usecases.projects import check_priority
from service.usecases.runs.transitions import record_transition

_WITHOUT_ATTEMPT = (RunState.QUEUED, RunState.PAUSED)


def cancel_run(run_id: str, *, caller: Caller, ctx: Context) -> Run:
    """Cancel a run: at once if it has no active attempt, else after its worker has stopped.

    Raises `ActionRefused` if the run already succeeded or failed.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.state is RunState.CANCELLED or (run.desired == "cancelled" and not run.is_over):
            return run
        if run.is_over:
            raise ActionRefused(run, "cancel")
        return cancel_in_transaction(uow, run, actor=caller.name, reason="", at=now)


def cancel_in_transaction(
    uow: UnitOfWork, run: Run, *, actor: str, reason: str, at: datetime
) -> Run:
    """Cancel an unfinished run within a transaction that has called `runs.get_for_update` for it.

    `reason` becomes part of the event.
    """
    if run.desired == "cancelled":
        return run
    updated = replace(run, desired="cancelled")
    if run.state in _WITHOUT_ATTEMPT:
        details = reason or "Cancelled without an active attempt."
        cancelled = transition(updated, RunState.CANCELLED, at=at)
        return record_transition(uow, run, cancelled, actor=actor, details=details)
    return _request_stop(uow, updated, EventKind.CANCEL_REQUESTED, actor, at, reason=reason)


def pause_run(run_id: str, *, caller: Caller, ctx: Context) -> Run:
    """Pause a run: its attempt stops with a checkpoint, and none starts until it is resumed.

    Raises `ActionRefused` if the run is finished or being cancelled.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.desired == "paused":
            return run
        if run.is_over or run.desired == "cancelled":
            raise ActionRefused(run, "pause")
        return pause_in_transaction(uow, run, actor=caller.name, at=now)


def pause_in_transaction(uow: UnitOfWork, run: Run, *, actor: str, at: datetime) -> Run:
    """Pause an unfinished run within a transaction that has called `runs.get_for_update` for it."""
    updated = replace(run, desired="paused")
    if run.state is RunState.QUEUED:
        paused = transition(updated, RunState.PAUSED, at=at)
        details = "Paused before it started."
        return record_transition(uow, run, paused, actor=actor, details=details)
    return _request_stop(uow, updated, EventKind.PAUSE_REQUESTED, actor, at)


def resume_run(run_id: str, *, caller: Caller, ctx: Context) -> Run:
    """Queue a paused run again, from its last checkpoint; or withdraw a pause in progress.

    Raises `ActionRefused` if the run is finished or being cancelled.
    """
    now = ctx.clock.now()
    with ctx.queue_transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.is_over or run.desired == "cancelled":
            raise ActionRefused(run, "resume")
        return resume_in_transaction(uow, run, actor=caller.name, at=now)


def resume_in_transaction(uow: UnitOfWork, run: Run, *, actor: str, at: datetime) -> Run:
    """Resume an unfinished run within a transaction that has called `runs.get_for_update` for it.

    One that is not paused stays as it is.
    """
    if run.state is RunState.PAUSED:
        updated = replace(run, desired="run", retries=replace(run.retries, not_before=None))
        queued = transition(updated, RunState.QUEUED, at=at)
        return record_transition(uow, run, queued, actor=actor, details="Resumed.")
    if run.desired == "run":
        return run
    # A worker that has received the stop still exits, and the next attempt follows at once.
    updated = replace(run, desired="run", stop_requested_at=None)
    uow.runs.save(updated)
    details = "The requested pause is withdrawn."
    uow.events.add(Event(run.id, at, actor, EventKind.RESUME_REQUESTED, details))
    return updated


def retry_run(run_id: str, *, caller: Caller, ctx: Context) -> Run:
    """Queue a failed or cancelled run again, from its last checkpoint, with its failures reset.

    Raises `ActionRefused` for a run in any other state, and `FilesDeleted` if retention has
    deleted files of it.
    """
    now = ctx.clock.now()
    with ctx.queue_transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.state not in (RunState.FAILED, RunState.CANCELLED):
            raise ActionRefused(run, "retry")
        if uow.retention.has_deleted_files(run_id):
            raise FilesDeleted(run_id)
        updated = replace(
            run,
            desired="run",
            reason=None,
            message="",
            retries=replace(run.retries, consecutive_failures=0, not_before=None),
        )
        queued = transition(updated, RunState.QUEUED, at=now)
        return record_transition(uow, run, queued, actor=caller.name, details="Retry requested.")


def set_priority(run_id: str, priority: int, *, caller: Caller, ctx: Context) -> Run:
    """Set a run's priority in the queue.

    Raises `ActionRefused` if the run is finished, and `PriorityForbidden` if the priority is larger
    than before and than the caller may give.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.is_over:
            raise ActionRefused(run, "prioritize")
        if run.queue.priority == priority:
            return run
        if priority > run.queue.priority:
            check_priority(uow, priority, project=run.project, caller=caller)
        updated = replace(run, queue=replace(run.queue, priority=priority))
        details = f"Priority changed from {run.queue.priority} to {priority}."
        uow.runs.save(updated)
        uow.events.add(Event(run.id, now, caller.name, EventKind.PRIORITY_CHANGED, details))
        return updated


def _request_stop(
    uow: UnitOfWork, run: Run, kind: EventKind, actor: str, now: datetime, *, reason: str = ""
) -> Run:
    """Request the stop of the active attempt; the reconciler stops its job after a grace period."""
    updated = replace(run, stop_requested_at=run.stop_requested_at or now)
    uow.runs.save(updated)
    details = f"{reason} The worker receives the request with its next receipt.".strip()
    uow.events.add(Event(run.id, now, actor, kind, details))
    return updated
