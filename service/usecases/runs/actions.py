"""What people want of a run that is there: cancel, pause, resume, retry, another priority."""

from dataclasses import replace
from datetime import datetime

from service.domain.access import Caller
from service.domain.errors import InvalidTransition
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event, Run, transition
from service.domain.states import RunState
from service.usecases.context import Context

_AT_REST = (RunState.QUEUED, RunState.PAUSED)


def cancel_run(run_id: str, *, caller: Caller, ctx: Context) -> Run:
    """Have a run end; one without an attempt ends at once, `InvalidTransition` if it ended otherwise."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.state is RunState.CANCELLED or (run.desired == "cancelled" and not run.is_over):
            return run
        if run.is_over:
            raise InvalidTransition(run.id, run.state, RunState.CANCELLED)
        return cancel_in_transaction(uow, run, actor=caller.name, why="", at=now)


def cancel_in_transaction(uow: UnitOfWork, run: Run, *, actor: str, why: str, at: datetime) -> Run:
    """Have a run end that is not over, as a part of more; after `unit.runs.take`."""
    if run.desired == "cancelled":
        return run
    wanted = replace(run, desired="cancelled")
    if run.state in _AT_REST:
        details = why or "Cancelled at rest."
        return _moved(uow, wanted, RunState.CANCELLED, actor, at, details)
    return _told(uow, wanted, "cancel_requested", actor, at, why=why)


def pause_run(run_id: str, *, caller: Caller, ctx: Context) -> Run:
    """Have a run's attempt leave with a checkpoint, and start no other until it is resumed."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.desired == "paused":
            return run
        if run.is_over or run.desired == "cancelled":
            raise InvalidTransition(run.id, run.state, RunState.PAUSED)
        wanted = replace(run, desired="paused")
        if run.state is RunState.QUEUED:
            return _moved(
                uow, wanted, RunState.PAUSED, caller.name, now, "Paused before it started."
            )
        return _told(uow, wanted, "pause_requested", caller.name, now)


def resume_run(run_id: str, *, caller: Caller, ctx: Context) -> Run:
    """Queue a paused run again; it goes on from its last checkpoint."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.state is RunState.PAUSED:
            wanted = replace(run, desired="run", not_before=None)
            return _moved(uow, wanted, RunState.QUEUED, caller.name, now, "Resumed.")
        if run.is_over or run.desired == "cancelled":
            raise InvalidTransition(run.id, run.state, RunState.QUEUED)
        if run.desired == "run":
            return run
        # If its worker was told already, it leaves, and another attempt follows at once.
        changed = replace(run, desired="run", stop_requested_at=None)
        uow.runs.save(changed)
        uow.events.add(Event(run.id, now, caller.name, "resume_requested", "It is not to pause."))
        return changed


def retry_run(run_id: str, *, caller: Caller, ctx: Context) -> Run:
    """Queue a failed or cancelled run again, from its last checkpoint, with a fresh budget."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.state not in (RunState.FAILED, RunState.CANCELLED):
            raise InvalidTransition(run.id, run.state, RunState.QUEUED)
        wanted = replace(
            run, desired="run", consecutive_failures=0, not_before=None, reason=None, message=""
        )
        return _moved(uow, wanted, RunState.QUEUED, caller.name, now, "Tried again as asked.")


def set_priority(run_id: str, priority: int, *, caller: Caller, ctx: Context) -> Run:
    """Give a run another place in the queue; `InvalidTransition` if it is over."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.is_over:
            raise InvalidTransition(run.id, run.state, run.state)
        if run.priority == priority:
            return run
        changed = replace(run, priority=priority)
        details = f"From {run.priority} to {priority}."
        uow.runs.save(changed)
        uow.events.add(Event(run.id, now, caller.name, "priority", details))
        return changed


def _moved(uow: UnitOfWork, run: Run, to: RunState, actor: str, now: datetime, details: str) -> Run:
    moved = transition(run, to, at=now)
    uow.runs.save(moved)
    uow.events.add(Event(run.id, now, actor, "moved", details, run.state, to))
    return moved


def _told(uow: UnitOfWork, run: Run, kind: str, actor: str, now: datetime, *, why: str = "") -> Run:
    """Its worker hears of it at its next word; the job is stopped if that takes too long."""
    asked = replace(run, stop_requested_at=run.stop_requested_at or now)
    uow.runs.save(asked)
    details = f"{why} The worker is told at its next word.".strip()
    uow.events.add(Event(run.id, now, actor, kind, details))
    return asked
