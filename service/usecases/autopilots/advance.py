"""Advances autopilots: each call does what can be done now, whatever was killed before."""

from configs.catalog import SpecError
from service.domain.autopilot.autopilots import (
    Autopilot,
    AutopilotPhase,
    enter_phase,
)
from service.domain.autopilot.budget import total_budget_s
from service.domain.autopilot.decide import decide_next
from service.domain.autopilot.history import (
    AutopilotCancellation,
    AutopilotEntry,
    AutopilotHistory,
    Conclusion,
    DeadlineReached,
)
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.state import add_decisions, replay_history
from service.usecases.autopilots.jobs import act_on_history
from service.usecases.autopilots.outcomes import read_history
from service.usecases.autopilots.probes import apply_probes, launch_probes, probe_key
from service.usecases.context import Context

_HOUR_S = 3600.0


def advance_probing(autopilot: Autopilot, *, ctx: Context) -> None:
    """Launch the probes, and begin the search once all of them are over."""
    with ctx.store.snapshot() as uow:
        jobs = {job.key: job.run_id for job in uow.autopilots.jobs(autopilot.id)}
        names = (*autopilot.spec.students, *autopilot.spec.trained_teachers)
        keys = [probe_key(name) for name in names]
        runs = {key: uow.runs.get(jobs[key]) for key in keys if key in jobs}
    if len(runs) < len(keys):
        launch_probes(autopilot.id, ctx=ctx)
    elif all(run.is_over for run in runs.values()):
        apply_probes(autopilot, runs, ctx=ctx)


def advance_search(autopilot: Autopilot, *, ctx: Context) -> None:
    """Store what there is to decide, act on it, and leave the search after its conclusion."""
    request = autopilot.request
    if request is None or autopilot.desired == "pause":
        return
    now = ctx.clock.now()
    with ctx.store.snapshot() as uow:
        history = read_history(uow, autopilot.id, now=now)
    decided = _decide_all(autopilot, request, history, elapsed_s=autopilot.elapsed_s(now))
    new = decided.entries[len(history.entries) :]
    if new and not _store(autopilot, new, first=len(history.entries), ctx=ctx):
        return  # A person has extended or stopped it meanwhile.
    try:
        act_on_history(autopilot, request, decided, ctx=ctx)
    except SpecError as error:
        _end(autopilot, AutopilotPhase.FAILED, message=str(error), ctx=ctx)
        return
    conclusion = decided.entries[-1] if decided.entries else None
    if isinstance(conclusion, Conclusion):
        _end(autopilot, _phase_after(conclusion), message=conclusion.message, ctx=ctx)


def clock_limit_s(autopilot: Autopilot, history: AutopilotHistory) -> float | None:
    """After how many seconds by the clock the budget ends. None without a budget in hours."""
    request, hours = autopilot.request, autopilot.spec.budget.hours
    if hours is None or request is None:
        return None
    total_s = total_budget_s(request, replay_history(history))
    return hours * _HOUR_S * total_s / request.budget_s


def _decide_all(
    autopilot: Autopilot,
    request: AutopilotRequest,
    history: AutopilotHistory,
    *,
    elapsed_s: float,
) -> AutopilotHistory:
    """The history with all decisions that need nothing to happen first."""
    state = replay_history(history)
    limit_s = clock_limit_s(autopilot, history)
    is_late = limit_s is not None and elapsed_s >= limit_s
    if state.conclusion is None and autopilot.desired == "stop" and not state.is_canceled:
        history = add_decisions(history, [AutopilotCancellation()])
    elif state.conclusion is None and is_late and not state.is_deadline_reached:
        history = add_decisions(history, [DeadlineReached()])
    while decisions := decide_next(request, history):
        history = add_decisions(history, decisions)
    return history


def _store(
    autopilot: Autopilot, entries: tuple[AutopilotEntry, ...], *, first: int, ctx: Context
) -> bool:
    """Append to the history; False if it is longer than it was."""
    with ctx.store.transaction() as uow:
        uow.autopilots.get_for_update(autopilot.id)
        if len(uow.autopilots.entries(autopilot.id)) != first:
            return False
        uow.autopilots.append(autopilot.id, entries, first=first)
        return True


def _phase_after(conclusion: Conclusion) -> AutopilotPhase:
    if conclusion.result == "canceled":
        return AutopilotPhase.STOPPED
    return AutopilotPhase.FAILED if conclusion.run is None else AutopilotPhase.DELIVERING


def _end(autopilot: Autopilot, phase: AutopilotPhase, *, message: str, ctx: Context) -> None:
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        current = uow.autopilots.get_for_update(autopilot.id)
        if current.phase is AutopilotPhase.SEARCHING:
            uow.autopilots.save(enter_phase(current, phase, at=now, message=message))
