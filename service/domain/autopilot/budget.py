"""What runs of an autopilot cost, what they have cost, and what its budget still buys."""

import math
from collections.abc import Mapping

from configs.protocol.probe import Costs
from configs.spec.base import Contract
from service.domain.autopilot.history import (
    AUTOPILOT_STAGES,
    AutopilotHistory,
    AutopilotStage,
    RunLaunch,
)
from service.domain.autopilot.request import AutopilotRequest, StudentOption
from service.domain.autopilot.state import AutopilotState, replay_history
from service.domain.estimates import pack_duration_s


class StageCost(Contract):
    """Device seconds of a stage."""

    stage: AutopilotStage
    planned_s: float
    """Of the runs that were launched, from the probe's costs."""

    spent_s: float


def format_device_time(seconds: float) -> str:
    """As in `1.5 h of device time` and `12 min of device time`."""
    amount = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
    return f"{amount} of device time"


def total_budget_s(request: AutopilotRequest, state: AutopilotState) -> float:
    """The budget with all extensions."""
    return request.budget_s + state.extension_s


def remaining_s(request: AutopilotRequest, state: AutopilotState) -> float:
    """What is not spent, and not needed by the runs that are live."""
    committed_s = math.fsum(
        max(0.0, launch.planned_s - _spent_s(state, launch))
        for launch in state.launches.values()
        if state.is_live(launch)
    )
    return total_budget_s(request, state) - state.spent_s - committed_s


def find_student(request: AutopilotRequest, name: str | None) -> StudentOption:
    """The option of a student. Raises `ValueError` if there is none of that name."""
    for student in request.students:
        if student.name == name:
            return student
    raise ValueError(
        f"the history names the student {name!r}, which the request does not have; a history "
        "belongs to the request that it was made for"
    )


def packs_s(
    request: AutopilotRequest,
    costs: Costs,
    *,
    students: int,
    epochs: int,
    has_teacher: bool,
) -> float:
    """Device seconds of students with the same seed, in as few packs as they fit into."""
    sizes = [
        min(request.pack_size, students - first) for first in range(0, students, request.pack_size)
    ]
    return math.fsum(
        request.start_s
        + pack_duration_s(
            costs,
            students=size,
            epochs=epochs,
            every_epochs=request.every_epochs,
            has_teacher=has_teacher,
        )
        for size in sizes
    )


def measure_stage_costs(history: AutopilotHistory) -> tuple[StageCost, ...]:
    """What each stage was planned to cost when its runs were launched, and what it has cost."""
    launches: Mapping[str, RunLaunch] = {
        entry.key: entry for entry in history.entries if isinstance(entry, RunLaunch)
    }
    spent = {outcome.key: outcome.spent_s for outcome in history.outcomes}
    return tuple(
        StageCost(
            stage=stage,
            planned_s=math.fsum(
                launch.planned_s for launch in launches.values() if launch.stage == stage
            ),
            spent_s=math.fsum(
                spent.get(key, 0.0) for key, launch in launches.items() if launch.stage == stage
            ),
        )
        for stage in AUTOPILOT_STAGES
    )


def time_to_spend_s(request: AutopilotRequest, history: AutopilotHistory) -> float:
    """Device seconds until the budget is used up; 0 where it is."""
    state = replay_history(history)
    return max(0.0, total_budget_s(request, state) - state.spent_s)


def _spent_s(state: AutopilotState, launch: RunLaunch) -> float:
    outcome = state.outcomes.get(launch.key)
    return 0.0 if outcome is None else outcome.spent_s
