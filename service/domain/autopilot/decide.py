"""The next decisions of an autopilot: one pure function of its request and its history."""

from collections.abc import Callable, Mapping
from typing import Literal

from service.domain.autopilot.baseline import decide_learning_rate, decide_noise_floor
from service.domain.autopilot.budget import format_device_time, total_budget_s
from service.domain.autopilot.conclusion import conclude_autopilot
from service.domain.autopilot.confirmation import (
    decide_confirmation,
    end_confirmation,
    examine_pairs,
)
from service.domain.autopilot.history import (
    AUTOPILOT_STAGES,
    AutopilotHistory,
    AutopilotStage,
    RunStop,
)
from service.domain.autopilot.launches import Decisions
from service.domain.autopilot.plan import plan_stages
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.screening import decide_screening
from service.domain.autopilot.state import AutopilotState, replay_history
from service.domain.autopilot.teacher import decide_teacher

_DECIDE_STAGE: Mapping[AutopilotStage, Callable[[AutopilotRequest, AutopilotState], Decisions]] = {
    "teacher": decide_teacher,
    "learning_rate": decide_learning_rate,
    "noise_floor": decide_noise_floor,
    "screening": decide_screening,
    "confirmation": decide_confirmation,
}


def decide_next(request: AutopilotRequest, history: AutopilotHistory) -> Decisions:
    """What to do next: runs to launch and to stop, the end of a stage, or the conclusion.

    The caller stores the decisions in the history, acts on them, and asks again until there are
    none; then something has to happen to a run first. Asked twice with one history, it answers the
    same, so a caller that was killed before it stored an answer loses nothing; one that was killed
    afterwards creates the runs of those launches whose keys have none. A paused autopilot is one
    that is not asked.
    """
    state = replay_history(history)
    if state.conclusion is not None:
        return ()
    if state.is_canceled:
        return _end_early(request, state, "canceled")
    if _is_budget_used_up(request, state):
        return _end_early(request, state, "out_of_budget")
    if not state.launches:
        affordable = request.model_copy(update={"budget_s": total_budget_s(request, state)})
        plan = plan_stages(affordable)
        if not plan.is_affordable:
            return (
                conclude_autopilot(request, state, "out_of_budget", message=" ".join(plan.advice)),
            )
    for stage in AUTOPILOT_STAGES:
        end = state.ends.get(stage)
        if end is None:
            return _DECIDE_STAGE[stage](request, state)
        if end.result != "passed":
            return (conclude_autopilot(request, state, end.result, message=end.message),)
    raise AssertionError("the last stage ends with a result of its own")


def _is_budget_used_up(request: AutopilotRequest, state: AutopilotState) -> bool:
    """Whether runs have to stop for it, or the clock says so."""
    has_live_runs = any(map(state.is_live, state.launches.values()))
    is_spent = has_live_runs and state.spent_s >= total_budget_s(request, state)
    return state.is_deadline_reached or is_spent


def _end_early(
    request: AutopilotRequest, state: AutopilotState, reason: Literal["out_of_budget", "canceled"]
) -> Decisions:
    """Stops all runs, each with its best checkpoint, and concludes from those that are complete."""
    budget = format_device_time(total_budget_s(request, state))
    used_up = f"The budget, {budget}, is used up."
    message = {
        "out_of_budget": "The hours of the budget are over."
        if state.is_deadline_reached
        else used_up,
        "canceled": "The autopilot was canceled.",
    }[reason]
    stops = tuple(
        RunStop(key=launch.key, reason=reason, message=message)
        for launch in state.launches.values()
        if state.is_live(launch)
    )
    current = examine_pairs(request, state)
    if current.claimed and reason == "out_of_budget":
        return (*stops, end_confirmation(current))
    return (*stops, conclude_autopilot(request, state, reason, message=message))
