"""What an autopilot would do and spend, stage by stage, before anything is spent."""

import math
from typing import Annotated

from pydantic import Field

from configs.spec.base import Contract
from service.domain.autopilot.baseline import (
    FIRST_OCTAVES,
    NOISE_SEEDS,
    learning_rates_cost_s,
    noise_floor_cost_s,
)
from service.domain.autopilot.budget import format_device_time
from service.domain.autopilot.confirmation import confirmation_cost_s, count_finalists
from service.domain.autopilot.halving import halving_cost_s, list_rungs
from service.domain.autopilot.history import AutopilotStage
from service.domain.autopilot.request import AutopilotRequest, Seconds, StudentOption
from service.domain.autopilot.screening import count_affordable_methods
from service.domain.autopilot.sequential_test import LOOK_SHARES, half_power_gain, next_look
from service.domain.autopilot.teacher import teachers_cost_s

_ADVICE_STEP_S = 360.0
"""What a budget should be is said in tenths of an hour, rounded up."""


class StagePlan(Contract):
    """A stage with its runs and their expected cost."""

    stage: AutopilotStage
    runs: Annotated[int, Field(ge=0)]
    """At most; those that are stopped early count too."""

    cost_s: Seconds
    message: str


class AutopilotPlan(Contract):
    """The stages, their cost, and whether the budget pays for a result."""

    stages: tuple[StagePlan, ...]
    methods: Annotated[int, Field(ge=0)]
    """How many methods are screened: the first ones of the request."""

    pairs: Annotated[int, Field(ge=0)]
    """Seeds on which the finalists can be confirmed. Fewer if the test decides earlier."""

    is_affordable: bool
    """Whether the budget pays for all stages up to the first look of the confirmation."""

    advice: tuple[str, ...]

    @property
    def total_s(self) -> float:
        """Device seconds of all stages; of the confirmation, with all of its seeds."""
        return sum(stage.cost_s for stage in self.stages)


def plan_stages(request: AutopilotRequest) -> AutopilotPlan:
    """The plan for a request, with the costs of its most expensive student."""
    student = max(
        request.students,
        key=lambda option: confirmation_cost_s(request, option.costs, arms=1, pairs=1),
    )
    before = _plan_baseline(request)
    free_s = request.budget_s - sum(stage.cost_s for stage in before)
    methods = count_affordable_methods(
        request, student.costs, budget_s=request.budget_s, free_s=free_s
    )
    screened = max(1, methods)
    screening_s = halving_cost_s(request, student.costs, methods=screened)
    free_s -= screening_s
    arms = count_finalists(request, student.costs, arms=screened, free_s=free_s)
    pairs = _affordable_pairs(request, student, arms=arms, free_s=free_s)
    confirmed = pairs or next_look(0) or 0
    stages = (
        *before,
        _plan_screening(request, screened, screening_s),
        StagePlan(
            stage="confirmation",
            runs=confirmed * (arms + 1),
            cost_s=confirmation_cost_s(request, student.costs, arms=arms, pairs=confirmed),
            message=f"{_count_methods(arms)} and the student alone on {next_look(0)} to "
            f"{confirmed} seeds, until the test decides",
        ),
    )
    return AutopilotPlan(
        stages=stages,
        methods=methods,
        pairs=pairs if methods else 0,
        is_affordable=methods > 0 and pairs > 0,
        advice=tuple(_advise(request, stages, methods=methods, pairs=pairs, arms=arms)),
    )


def _plan_baseline(request: AutopilotRequest) -> tuple[StagePlan, ...]:
    rates = len(FIRST_OCTAVES) * len(request.students)
    schedules = len(request.schedules)
    return (
        StagePlan(
            stage="teacher",
            runs=len(request.teachers),
            cost_s=teachers_cost_s(request),
            message="mAP of each teacher on the validation images",
        ),
        StagePlan(
            stage="learning_rate",
            runs=rates + schedules,
            cost_s=learning_rates_cost_s(request),
            message="the student alone with several learning rates and schedules; more if the best "
            "is the lowest or the highest",
        ),
        StagePlan(
            stage="noise_floor",
            runs=NOISE_SEEDS,
            cost_s=noise_floor_cost_s(request),
            message=f"the student alone on {NOISE_SEEDS} seeds",
        ),
    )


def _plan_screening(request: AutopilotRequest, methods: int, cost_s: float) -> StagePlan:
    rungs = ", ".join(map(str, list_rungs(request)))
    message = f"{_count_methods(methods)} and the student alone on one seed"
    return StagePlan(
        stage="screening",
        runs=methods + 1,
        cost_s=cost_s,
        message=f"{message}; the worse ones stop after epoch {rungs}" if rungs else message,
    )


def _count_methods(number: int) -> str:
    return f"{number} method" + ("s" if number != 1 else "")


def _affordable_pairs(
    request: AutopilotRequest, student: StudentOption, *, arms: int, free_s: float
) -> int:
    return max(
        (
            pairs
            for pairs in LOOK_SHARES
            if confirmation_cost_s(request, student.costs, arms=arms, pairs=pairs) <= free_s
        ),
        default=0,
    )


def _advise(
    request: AutopilotRequest,
    stages: tuple[StagePlan, ...],
    *,
    methods: int,
    pairs: int,
    arms: int,
) -> list[str]:
    if methods == 0 or pairs == 0:
        screening = next(stage for stage in stages if stage.stage == "screening")
        needed_s = max(
            sum(stage.cost_s for stage in stages),
            screening.cost_s / request.screening_share,
        )
        needed_s = math.ceil(needed_s / _ADVICE_STEP_S) * _ADVICE_STEP_S
        return [
            f"The budget, {format_device_time(request.budget_s)}, does not pay for a confirmed "
            f"result, which needs about {format_device_time(needed_s)}: raise it, or train fewer "
            "epochs or on fewer images."
        ]
    advice = []
    if methods < len(request.methods):
        unscreened = ", ".join(option.name for option in request.methods[methods:])
        advice.append(f"The budget does not pay for the screening of {unscreened}.")
    if pairs < max(LOOK_SHARES):
        gain = half_power_gain(pairs, arms=arms)
        advice.append(
            f"The budget pays for {pairs} seeds of confirmation. The last of them claim a gain of "
            f"{gain:.1f} times the deviation of a difference over seeds in half of all cases."
        )
    return advice
