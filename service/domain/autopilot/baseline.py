"""The stages of the student without a teacher: its learning rate and schedule, and its noise floor.

They come before any distillation, so that a gain is not one over a badly trained student.
"""

import math
from collections.abc import Iterator

from configs.seed_noise import noise_floor
from service.domain.autopilot.budget import find_student, packs_s
from service.domain.autopilot.history import Arm, RunLaunch, StageEnd
from service.domain.autopilot.launches import (
    Decisions,
    choose_seeds,
    launch_missing,
    launch_within_budget,
)
from service.domain.autopilot.request import BASELINE, AutopilotRequest, StudentOption
from service.domain.autopilot.state import FAILED_MAP, AutopilotState
from service.domain.autopilot.teacher import format_map, teacher_map

LEARNING_RATE = "schedule.optimizer.lr"

FIRST_OCTAVES = (-1, 0, 1)
"""Powers of 2 by which the requested learning rate is multiplied first."""

_MAX_OCTAVE = 4

NOISE_SEEDS = 3
_MAX_NOISE_SEEDS = 5
"""With those that replace failed ones."""


def decide_learning_rate(request: AutopilotRequest, state: AutopilotState) -> Decisions:
    """Searches the learning rate of each student, then the schedule of the best one.

    Runs are not stopped early: learning rates change their order when they decay.
    """
    seed = _learning_rate_seed(request, state)
    arms = [arm for student in request.students for arm in _rate_arms(request, state, student)]
    launches = _launch_baselines(request, state, arms, seed)
    if launches:
        return launch_within_budget(request, state, launches)
    if state.has_live_runs("learning_rate"):
        return ()
    best = _best_arm(state, arms)
    arms += list(_schedule_arms(request, best))
    launches = _launch_baselines(request, state, arms, seed)
    if launches:
        return launch_within_budget(request, state, launches)
    best = _best_arm(state, arms)
    value = _rate_map(state, best)
    if value is None or value == FAILED_MAP:
        message = "The student trained with none of the learning rates; look at the logs."
        return (StageEnd(stage="learning_rate", result="no_student", message=message),)
    message = (
        f"Without a teacher, the best of {len(arms)} settings is {best.name}: {format_map(value)} "
        f"mAP on seed {seed}."
    )
    return (
        StageEnd(stage="learning_rate", result="passed", selected=(best.name,), message=message),
    )


def decide_noise_floor(request: AutopilotRequest, state: AutopilotState) -> Decisions:
    """Trains the selected setting on further seeds; ends it all if the teacher is no better."""
    arm = baseline_arm(state)
    seeds = state.list_seeds("noise_floor")
    maps = [state.final_map("noise_floor", BASELINE, seed) for seed in seeds]
    complete = [value for value in maps if value is not None and value != FAILED_MAP]
    missing = NOISE_SEEDS - len(complete) - maps.count(None)
    if missing > 0 and len(seeds) + missing <= _MAX_NOISE_SEEDS:
        student = find_student(request, arm.student)
        cost_s = missing * packs_s(
            request, student.costs, students=1, epochs=request.epochs, has_teacher=False
        )
        resumed = [seed for stage, _, seed in state.interrupted if stage == "noise_floor"]
        fresh = choose_seeds(request, state, wanted=max(0, missing - len(resumed)))
        launches = launch_missing(
            state,
            "noise_floor",
            [(arm, seed) for seed in [*resumed[:missing], *fresh]],
            epochs=request.epochs,
            cost_s=cost_s,
        )
        return launch_within_budget(request, state, launches)
    if None in maps:
        return ()
    return (_end_noise_floor(state, complete),)


def baseline_arm(state: AutopilotState) -> Arm:
    """The student with the learning rate and schedule that were selected, without a teacher."""
    (name,) = state.ends["learning_rate"].selected
    selected = next(
        launch.arm for launch in state.list_runs("learning_rate") if launch.arm.name == name
    )
    return selected.model_copy(update={"name": BASELINE})


def learning_rates_cost_s(request: AutopilotRequest) -> float:
    """Device seconds of the first learning rates of all students, and of the schedules."""
    rates_s = (
        packs_s(
            request,
            student.costs,
            students=len(FIRST_OCTAVES),
            epochs=request.epochs,
            has_teacher=False,
        )
        for student in request.students
    )
    return math.fsum(rates_s) + len(request.schedules) * _slowest_run_s(request)


def noise_floor_cost_s(request: AutopilotRequest) -> float:
    """Device seconds of the noise floor's runs, of the most expensive student."""
    return NOISE_SEEDS * _slowest_run_s(request)


def _slowest_run_s(request: AutopilotRequest) -> float:
    return max(
        packs_s(request, student.costs, students=1, epochs=request.epochs, has_teacher=False)
        for student in request.students
    )


def _learning_rate_seed(request: AutopilotRequest, state: AutopilotState) -> int:
    seeds = [
        seed for stage, _, seed in (*state.launches, *state.interrupted) if stage == "learning_rate"
    ]
    return seeds[0] if seeds else choose_seeds(request, state, wanted=1)[0]


def _rate_arms(
    request: AutopilotRequest, state: AutopilotState, student: StudentOption
) -> list[Arm]:
    """Arms with learning rates an octave apart. While the best is the lowest or the highest, the
    next one beyond it is added."""
    arms = {octave: _rate_arm(request, student, octave) for octave in FIRST_OCTAVES}
    while True:
        maps = {
            octave: value
            for octave, arm in arms.items()
            if (value := _rate_map(state, arm)) is not None
        }
        if len(maps) < len(arms):
            return list(arms.values())
        best = max(maps, key=lambda octave: (maps[octave], -abs(octave)))
        beyond = {min(arms): min(arms) - 1, max(arms): max(arms) + 1}.get(best, best)
        if beyond in arms or abs(beyond) > _MAX_OCTAVE or maps[best] == FAILED_MAP:
            return list(arms.values())
        arms[beyond] = _rate_arm(request, student, beyond)


def _rate_arm(request: AutopilotRequest, student: StudentOption, octave: int) -> Arm:
    rate = request.learning_rate * 2.0**octave
    return Arm(
        name=f"{student.name}, lr {rate:.4g}",
        role="baseline",
        student=student.name,
        values={**student.values, LEARNING_RATE: rate},
    )


def _schedule_arms(request: AutopilotRequest, best: Arm) -> Iterator[Arm]:
    for number, values in enumerate(request.schedules, start=1):
        changes = {"name": f"{best.name}, schedule {number}", "values": {**best.values, **values}}
        yield best.model_copy(update=changes)


def _launch_baselines(
    request: AutopilotRequest, state: AutopilotState, arms: list[Arm], seed: int
) -> tuple[RunLaunch, ...]:
    """Runs of one student train in packs; different students have nothing to share."""
    launches: tuple[RunLaunch, ...] = ()
    for student in request.students:
        missing = [
            (arm, seed)
            for arm in arms
            if arm.student == student.name
            and ("learning_rate", arm.name, seed) not in state.launches
        ]
        cost_s = packs_s(
            request,
            student.costs,
            students=len(missing),
            epochs=request.epochs,
            has_teacher=False,
        )
        launches += launch_missing(
            state, "learning_rate", missing, epochs=request.epochs, cost_s=cost_s
        )
    return launches


def _best_arm(state: AutopilotState, arms: list[Arm]) -> Arm:
    """The first of equal ones."""
    maps = [value if (value := _rate_map(state, arm)) is not None else FAILED_MAP for arm in arms]
    return arms[maps.index(max(maps))]


def _rate_map(state: AutopilotState, arm: Arm) -> float | None:
    return state.mean_map("learning_rate", arm.name)


def _end_noise_floor(state: AutopilotState, maps: list[float]) -> StageEnd:
    floor = noise_floor([maps])
    if floor is None:
        message = "The student's runs failed on most seeds; look at their logs."
        return StageEnd(stage="noise_floor", result="no_student", message=message)
    mean = math.fsum(maps) / len(maps)
    (teacher,) = state.ends["teacher"].selected
    measured = teacher_map(state, teacher)
    message = (
        f"The student without a teacher has {format_map(mean)} mAP over {len(maps)} seeds; two "
        f"runs differ by up to {format_map(floor.floor)} by their seed alone."
    )
    if measured > mean:
        return StageEnd(stage="noise_floor", result="passed", message=message)
    return StageEnd(
        stage="noise_floor",
        result="weak_teacher",
        message=(
            f"{message} The teacher {teacher} has {format_map(measured)}, which is no more: it has "
            "nothing to teach. Name a better teacher, or train one on these images."
        ),
    )
