"""Actions on autopilots: pause, resume, stop, extend."""

from dataclasses import replace

from configs.spec.autopilot import AutopilotBudget
from service.domain.access import Caller
from service.domain.autopilot.autopilots import (
    Autopilot,
    AutopilotActionRefused,
    AutopilotPhase,
    enter_phase,
    start_clock,
    stop_clock,
)
from service.domain.autopilot.history import BudgetExtension, Conclusion
from service.domain.errors.base import FieldError
from service.domain.errors.requests import SpecRefused
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.usecases.autopilots.jobs import AUTOPILOT_ACTOR
from service.usecases.context import Context
from service.usecases.runs.actions import (
    cancel_in_transaction,
    pause_in_transaction,
    resume_in_transaction,
)


def pause_autopilot(autopilot_id: str, *, caller: Caller, ctx: Context) -> Autopilot:
    """Pause an autopilot and its runs; its clock stops. Raises `AutopilotActionRefused` if it is
    over, or is being stopped."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        autopilot = uow.autopilots.get_for_update(autopilot_id)
        if autopilot.desired == "pause" and not autopilot.is_over:
            return autopilot
        _check_unfinished(autopilot, "paused")
        for run in _lock_unfinished_runs(uow, autopilot):
            if run.desired == "run":
                pause_in_transaction(uow, run, actor=caller.name, at=now)
        paused = replace(stop_clock(autopilot, at=now), desired="pause", updated_at=now)
        uow.autopilots.save(paused)
        return paused


def resume_autopilot(autopilot_id: str, *, caller: Caller, ctx: Context) -> Autopilot:
    """Continue a paused autopilot with its runs. Raises `AutopilotActionRefused` if it is over, or
    is being stopped."""
    now = ctx.clock.now()
    with ctx.queue_transaction() as uow:
        autopilot = uow.autopilots.get_for_update(autopilot_id)
        if autopilot.desired == "run" and not autopilot.is_over:
            return autopilot
        _check_unfinished(autopilot, "resumed")
        for run in _lock_unfinished_runs(uow, autopilot):
            if run.desired == "paused":
                resume_in_transaction(uow, run, actor=caller.name, at=now)
        resumed = replace(autopilot, desired="run", updated_at=now)
        if autopilot.phase is AutopilotPhase.SEARCHING:
            resumed = start_clock(resumed, at=now)
        uow.autopilots.save(resumed)
        return resumed


def stop_autopilot(autopilot_id: str, *, caller: Caller, ctx: Context) -> Autopilot:
    """Stop an autopilot: its runs are cancelled, with their checkpoints. Raises
    `AutopilotActionRefused` if it is over."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        autopilot = uow.autopilots.get_for_update(autopilot_id)
        if autopilot.desired == "stop":
            return autopilot
        _check_unfinished(autopilot, "stopped")
        reason = f"Autopilot {autopilot.id} was stopped by {caller.name}."
        for run in _lock_unfinished_runs(uow, autopilot):
            cancel_in_transaction(uow, run, actor=AUTOPILOT_ACTOR, reason=reason, at=now)
        message = f"Stopped by {caller.name}."
        stopped = replace(autopilot, desired="stop", message=message, updated_at=now)
        if autopilot.phase is not AutopilotPhase.SEARCHING:  # nothing is left to conclude
            stopped = enter_phase(stopped, AutopilotPhase.STOPPED, at=now, message=message)
        uow.autopilots.save(stopped)
        return stopped


def extend_autopilot(autopilot_id: str, budget: AutopilotBudget, *, ctx: Context) -> Autopilot:
    """Grant more budget, in the unit of the first one. One that ran out of budget goes on where it
    was.

    Raises `SpecRefused` for another unit, and `AutopilotActionRefused` before its plan is known, or
    if it ended by anything else than its budget.
    """
    now = ctx.clock.now()
    with ctx.queue_transaction() as uow:
        autopilot = uow.autopilots.get_for_update(autopilot_id)
        request = autopilot.request
        if request is None:
            raise AutopilotActionRefused(
                f"Autopilot {autopilot.id} is {autopilot.phase} and has no plan yet, so it cannot "
                "be extended."
            )
        entries = uow.autopilots.entries(autopilot.id)
        last = entries[-1] if entries else None
        if isinstance(last, Conclusion) and last.result != "out_of_budget":
            raise AutopilotActionRefused(
                f"Autopilot {autopilot.id} ended with {last.result}, which more budget would not "
                "change. Launch another one."
            )
        if autopilot.desired == "stop":
            raise AutopilotActionRefused(f"Autopilot {autopilot.id} is being stopped.")
        factor = _compute_factor(autopilot.spec.budget, budget)
        extension = BudgetExtension(budget_s=factor * request.budget_s)
        uow.autopilots.append(autopilot.id, [extension], first=len(entries))
        extended = replace(autopilot, updated_at=now)
        if isinstance(last, Conclusion):
            extended = replace(extended, desired="run")
            extended = enter_phase(extended, AutopilotPhase.SEARCHING, at=now)
        uow.autopilots.save(extended)
        return extended


def _compute_factor(first: AutopilotBudget, extension: AutopilotBudget) -> float:
    """The extension in parts of the first budget."""
    for unit in AutopilotBudget.model_fields:
        before, more = getattr(first, unit), getattr(extension, unit)
        if before is not None and more is not None:
            return float(more) / float(before)
    unit = next(name for name in AutopilotBudget.model_fields if getattr(first, name) is not None)
    raise SpecRefused(
        [FieldError("budget", "invalid", f"The budget is in {unit}: extend it in {unit}.")]
    )


def _lock_unfinished_runs(uow: UnitOfWork, autopilot: Autopilot) -> list[Run]:
    """In the order of their ids, as all transactions that lock several runs."""
    run_ids = {job.run_id for job in uow.autopilots.jobs(autopilot.id)}
    runs = [uow.runs.get_for_update(run_id) for run_id in sorted(run_ids)]
    return [run for run in runs if not run.is_over]


def _check_unfinished(autopilot: Autopilot, participle: str) -> None:
    if autopilot.is_over or autopilot.desired == "stop":
        state = "being stopped" if not autopilot.is_over else autopilot.phase
        raise AutopilotActionRefused(
            f"Autopilot {autopilot.id} is {state} and cannot be {participle}."
        )
