"""Screening: all methods on one seed by successive halving, then the best of them on further seeds.

Nothing is claimed from it, so it may compare as often as it likes.
"""

import statistics

from configs.conclusions import format_points
from configs.protocol.probe import Costs
from service.domain.autopilot.baseline import baseline_arm
from service.domain.autopilot.budget import find_student, packs_s, remaining_s, total_budget_s
from service.domain.autopilot.confirmation import confirmation_cost_s, count_finalists
from service.domain.autopilot.halving import halving_cost_s, judge_rungs
from service.domain.autopilot.history import Arm, RunLaunch, StageEnd
from service.domain.autopilot.launches import (
    Decisions,
    choose_seeds,
    launch_missing,
    launch_within_budget,
)
from service.domain.autopilot.request import BASELINE, AutopilotRequest
from service.domain.autopilot.sequential_test import next_look
from service.domain.autopilot.state import AutopilotState

_MAX_SEEDS = 3

_REPEATED_SURPLUS = 1
"""So many more arms than there are finalists are trained on further seeds."""


def decide_screening(request: AutopilotRequest, state: AutopilotState) -> Decisions:
    """Launches as many methods as its share of the budget pays for, stops the worse ones at each
    rung, repeats the best on another seed while the share pays for it, and selects finalists."""
    if any(stage == "screening" for stage, _, _ in state.interrupted):
        return _continue_screening(request, state)
    if not state.list_runs("screening"):
        return _launch_methods(request, state)
    stops = judge_rungs(request, state)
    if stops or state.has_live_runs("screening"):
        return stops
    repeated = _repeat_best(request, state)
    return repeated or (_select_finalists(request, state),)


def count_affordable_methods(
    request: AutopilotRequest, costs: Costs, *, budget_s: float, free_s: float
) -> int:
    """How many methods can be screened, so that the first look of the confirmation can be paid."""
    for methods in range(len(request.methods), 0, -1):
        limit_s = min(
            request.screening_share * budget_s,
            free_s - _first_look_cost_s(request, costs),
        )
        if halving_cost_s(request, costs, methods=methods) <= limit_s:
            return methods
    return 0


def _first_look_cost_s(request: AutopilotRequest, costs: Costs) -> float:
    return confirmation_cost_s(request, costs, arms=1, pairs=next_look(0) or 0)


def _launch_methods(request: AutopilotRequest, state: AutopilotState) -> Decisions:
    baseline = baseline_arm(state)
    costs = find_student(request, baseline.student).costs
    methods = count_affordable_methods(
        request,
        costs,
        budget_s=total_budget_s(request, state),
        free_s=remaining_s(request, state),
    )
    if methods == 0:
        message = (
            "The budget does not pay for the screening of a method and its confirmation on "
            f"{next_look(0)} seeds; extend it to go on."
        )
        return (StageEnd(stage="screening", result="out_of_budget", message=message),)
    (teacher,) = state.ends["teacher"].selected
    arms = [
        Arm(
            name=option.name,
            role="distilled",
            student=baseline.student,
            teacher=teacher,
            values={**baseline.values, **option.values},
        )
        for option in request.methods[:methods]
    ]
    cost_s = halving_cost_s(request, costs, methods=methods)
    return launch_within_budget(
        request, state, _launch_seed(request, state, [baseline, *arms], cost_s=cost_s)
    )


def _continue_screening(request: AutopilotRequest, state: AutopilotState) -> Decisions:
    interrupted = [launch for launch in state.interrupted.values() if launch.stage == "screening"]
    launches = launch_missing(
        state,
        "screening",
        [(launch.arm, launch.seed) for launch in interrupted],
        epochs=request.epochs,
        cost_s=sum(launch.planned_s for launch in interrupted),
    )
    return launch_within_budget(request, state, launches)


def _repeat_best(request: AutopilotRequest, state: AutopilotState) -> Decisions:
    """The best arms on another seed. Nothing if the share of the budget does not pay for it, or if
    no choice remains."""
    gains = _complete_gains(state)
    ranked = _rank(gains)[: request.finalists + _REPEATED_SURPLUS]
    if len(state.list_seeds("screening")) >= _MAX_SEEDS or len(ranked) <= request.finalists:
        return ()
    arms = {launch.arm.name: launch.arm for launch in state.list_runs("screening")}
    costs = find_student(request, arms[BASELINE].student).costs
    cost_s = packs_s(
        request, costs, students=len(ranked) + 1, epochs=request.epochs, has_teacher=True
    )
    spent_s = state.spent_in("screening")
    first_look_s = _first_look_cost_s(request, costs)
    if spent_s + cost_s > request.screening_share * total_budget_s(
        request, state
    ) or cost_s + first_look_s > remaining_s(request, state):
        return ()
    names = (BASELINE, *ranked)
    return _launch_seed(request, state, [arms[name] for name in names], cost_s=cost_s)


def _launch_seed(
    request: AutopilotRequest, state: AutopilotState, arms: list[Arm], *, cost_s: float
) -> tuple[RunLaunch, ...]:
    (seed,) = choose_seeds(request, state, wanted=1)
    runs = [(arm, seed) for arm in arms]
    return launch_missing(state, "screening", runs, epochs=request.epochs, cost_s=cost_s)


def _complete_gains(state: AutopilotState) -> dict[str, list[float]]:
    """Gains by seed of the arms that were trained to the end on all seeds that count."""
    names = dict.fromkeys(launch.arm.name for launch in state.list_runs("screening"))
    gains = {name: state.list_gains("screening", name) for name in names if name != BASELINE}
    seeds = max(map(len, gains.values()), default=0)
    return {name: values for name, values in gains.items() if values and len(values) == seeds}


def _rank(gains: dict[str, list[float]]) -> list[str]:
    """Arms above the baseline, the best first."""
    means = {name: statistics.fmean(values) for name, values in gains.items()}
    ranked = sorted(means, key=lambda name: means[name], reverse=True)
    return [name for name in ranked if means[name] > 0.0]


def _select_finalists(request: AutopilotRequest, state: AutopilotState) -> StageEnd:
    gains = _complete_gains(state)
    ranked = _rank(gains)
    costs = find_student(request, baseline_arm(state).student).costs
    count = count_finalists(request, costs, arms=len(ranked), free_s=remaining_s(request, state))
    finalists = ranked[:count]
    methods = len({launch.arm.name for launch in state.list_runs("screening")}) - 1
    seeds = len(state.list_seeds("screening"))
    if not finalists:
        message = f"None of {methods} methods is above the student without a teacher."
        return StageEnd(stage="screening", result="nothing_screened", message=message)
    selected = ", ".join(
        f"{name} {format_points(statistics.fmean(gains[name]))}" for name in finalists
    )
    message = (
        f"Best of {methods} methods, on {seeds} seed{'s' if seeds != 1 else ''}: {selected}. The "
        "best of many is overstated, so they are confirmed on other seeds."
    )
    return StageEnd(stage="screening", result="passed", selected=tuple(finalists), message=message)
