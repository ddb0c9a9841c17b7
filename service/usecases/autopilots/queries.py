"""Reads of autopilots: lists, one with its plan and its spending, and its decisions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from service.domain.access import Caller
from service.domain.autopilot.autopilots import Autopilot, AutopilotJob, AutopilotPhase
from service.domain.autopilot.budget import StageCost, measure_stage_costs, total_budget_s
from service.domain.autopilot.history import (
    AUTOPILOT_STAGES,
    AutopilotEntry,
    AutopilotHistory,
    AutopilotStage,
    Conclusion,
    RunLaunch,
    RunStop,
    StageEnd,
)
from service.domain.autopilot.plan import AutopilotPlan, plan_stages
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.state import AutopilotState, replay_history
from service.domain.errors.requests import AutopilotNotFound
from service.domain.repositories.autopilots import AutopilotFilter
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.usecases.access import resolve_project
from service.usecases.autopilots.advance import clock_limit_s
from service.usecases.autopilots.outcomes import read_history
from service.usecases.context import Context


@dataclass(frozen=True)
class AutopilotSpending:
    """Seconds of an autopilot's budget, with all extensions."""

    total_s: float
    """Device seconds: those of all jobs are added up."""

    spent_s: float
    """Without its probes, which are not a part of the budget, and its delivery."""

    clock_total_s: float | None
    """None without a budget in hours by the clock."""

    clock_spent_s: float
    """By the clock, without pauses."""


@dataclass(frozen=True)
class KeyedRun:
    """A run of an autopilot, by its key."""

    key: str
    run: Run


@dataclass(frozen=True)
class AutopilotStatus:
    """An autopilot with what follows from its history; the fields are None until its probes end."""

    autopilot: Autopilot
    plan: AutopilotPlan | None
    costs: tuple[StageCost, ...]
    """Of the stages in their order; empty until the probes end."""

    ends: dict[AutopilotStage, StageEnd]
    stage: AutopilotStage | None
    """The one that it is in. None before and after the search."""

    spending: AutopilotSpending | None
    conclusion: Conclusion | None
    delivered_run_id: str | None
    """The run whose checkpoint the conclusion delivers."""

    jobs: tuple[KeyedRun, ...]
    """Probes, exports and evaluations, which are no decisions."""


@dataclass(frozen=True)
class ListedDecision:
    """An entry of a history, and the run that it is about."""

    position: int
    entry: AutopilotEntry
    run: Run | None
    """None for a decision about no run, and for a launch that has no run yet."""

    @property
    def key(self) -> str | None:
        """The key of the run that the entry is about."""
        return _key_of(self.entry)


def get_autopilot(autopilot_id: str, *, ctx: Context) -> Autopilot:
    with ctx.store.snapshot() as uow:
        return uow.autopilots.get(autopilot_id)


def list_autopilots(
    autopilot_filter: AutopilotFilter, *, caller: Caller, ctx: Context
) -> list[Autopilot]:
    """A page of the autopilots that the caller may see, newest first."""
    project = resolve_project(autopilot_filter.project, caller=caller)
    before = autopilot_filter.before
    with ctx.store.snapshot() as uow:
        if before is not None and not caller.can_see(uow.autopilots.get(before).project):
            raise AutopilotNotFound(before)
        return uow.autopilots.page(replace(autopilot_filter, project=project))


def get_status(autopilot_id: str, *, ctx: Context) -> AutopilotStatus:
    """The state of an autopilot; `AutopilotNotFound` for an unknown id."""
    now = ctx.clock.now()
    with ctx.store.snapshot() as uow:
        autopilot = uow.autopilots.get(autopilot_id)
        history = read_history(uow, autopilot_id, now=now)
        run_ids = {job.key: job.run_id for job in uow.autopilots.jobs(autopilot_id)}
        launched = {entry.key for entry in history.entries if isinstance(entry, RunLaunch)}
        jobs = tuple(
            KeyedRun(key, uow.runs.get(run_id))
            for key, run_id in run_ids.items()
            if key not in launched
        )
    state = replay_history(history)
    conclusion = state.conclusion
    request = autopilot.request
    return AutopilotStatus(
        autopilot=autopilot,
        plan=None if request is None else _plan_with_extensions(request, state),
        costs=() if request is None else measure_stage_costs(history),
        ends=state.ends,
        stage=_find_stage(autopilot, state),
        spending=None if request is None else _measure(autopilot, request, history, now=now),
        conclusion=conclusion,
        delivered_run_id=run_ids.get(conclusion.run or "") if conclusion else None,
        jobs=jobs,
    )


def list_decisions(
    autopilot_id: str, *, first: int, limit: int, ctx: Context
) -> list[ListedDecision]:
    """The entries of the history from position `first` on, at most `limit` of them."""
    with ctx.store.snapshot() as uow:
        uow.autopilots.get(autopilot_id)
        entries = uow.autopilots.entries(autopilot_id)[first : first + limit]
        jobs = uow.autopilots.jobs(autopilot_id)
        runs = _read_runs(uow, entries, jobs)
    return [
        ListedDecision(position, entry, runs.get(_key_of(entry) or ""))
        for position, entry in enumerate(entries, start=first)
    ]


def _plan_with_extensions(request: AutopilotRequest, state: AutopilotState) -> AutopilotPlan:
    budget_s = total_budget_s(request, state)
    return plan_stages(request.model_copy(update={"budget_s": budget_s}))


def _find_stage(autopilot: Autopilot, state: AutopilotState) -> AutopilotStage | None:
    if autopilot.phase is not AutopilotPhase.SEARCHING:
        return None
    return next((stage for stage in AUTOPILOT_STAGES if stage not in state.ends), None)


def _measure(
    autopilot: Autopilot, request: AutopilotRequest, history: AutopilotHistory, *, now: datetime
) -> AutopilotSpending:
    state = replay_history(history)
    return AutopilotSpending(
        total_s=total_budget_s(request, state),
        spent_s=state.spent_s,
        clock_total_s=clock_limit_s(autopilot, history),
        clock_spent_s=autopilot.elapsed_s(now),
    )


def _read_runs(
    uow: UnitOfWork, entries: Sequence[AutopilotEntry], jobs: Sequence[AutopilotJob]
) -> dict[str, Run]:
    """The runs that the entries are about, by key."""
    run_ids = {job.key: job.run_id for job in jobs}
    keys = {key for entry in entries if (key := _key_of(entry)) in run_ids}
    return {key: uow.runs.get(run_ids[key]) for key in sorted(keys)}


def _key_of(entry: AutopilotEntry) -> str | None:
    """The key of the run that an entry is about."""
    if isinstance(entry, RunLaunch | RunStop):
        return entry.key
    return entry.run if isinstance(entry, Conclusion) else None
