"""The first stage: measures the detectors that may teach, and selects the best."""

import math

from configs.conclusions import format_points
from service.domain.autopilot.history import Arm, RunLaunch, StageEnd
from service.domain.autopilot.launches import Decisions, launch_missing, launch_within_budget
from service.domain.autopilot.request import AutopilotRequest, TeacherOption
from service.domain.autopilot.state import FAILED_MAP, AutopilotState


def decide_teacher(request: AutopilotRequest, state: AutopilotState) -> Decisions:
    """Launches all measurements; once they are over, selects the teacher with the best mAP."""
    launches = _launch_teachers(request, state)
    if launches:
        return launch_within_budget(request, state, launches)
    if state.has_live_runs("teacher"):
        return ()
    maps = {option.name: teacher_map(state, option.name) for option in request.teachers}
    best = max(maps, key=lambda name: maps[name])  # the first of equal ones
    if maps[best] == FAILED_MAP:
        message = "No teacher could be measured; look at the logs of its runs."
        return (StageEnd(stage="teacher", result="no_teacher", message=message),)
    measured = ", ".join(
        f"{name} {'failed' if value == FAILED_MAP else format_map(value)}"
        for name, value in maps.items()
    )
    message = f"{best} teaches; mAP on the validation images: {measured}."
    return (StageEnd(stage="teacher", result="passed", selected=(best,), message=message),)


def teacher_map(state: AutopilotState, name: str) -> float:
    """mAP of a teacher on the validation images; `FAILED_MAP` without a measurement."""
    value = state.mean_map("teacher", name)
    return FAILED_MAP if value is None else value


def teachers_cost_s(request: AutopilotRequest) -> float:
    """Device seconds to measure all teachers, and to train those that are not trained."""
    return math.fsum(option.cost_s for option in request.teachers)


def format_map(value: float) -> str:
    """mAP in points of 100, without a sign."""
    return format_points(value).lstrip("+")


def _launch_teachers(request: AutopilotRequest, state: AutopilotState) -> tuple[RunLaunch, ...]:
    return tuple(
        launch
        for option in request.teachers
        for launch in launch_missing(
            state,
            "teacher",
            [(_arm(option), request.first_seed)],
            epochs=request.epochs if option.values else 0,
            cost_s=option.cost_s,
        )
    )


def _arm(option: TeacherOption) -> Arm:
    return Arm(name=option.name, role="teacher", teacher=option.name, values=option.values)
