"""Launches of the runs that a stage still lacks."""

from collections.abc import Iterable

from service.domain.autopilot.budget import format_device_time, remaining_s
from service.domain.autopilot.history import (
    Arm,
    AutopilotStage,
    Decision,
    RunLaunch,
    StageEnd,
)
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.state import AutopilotState
from service.domain.baselines import choose_new_seeds

Decisions = tuple[Decision, ...]


def choose_seeds(request: AutopilotRequest, state: AutopilotState, *, wanted: int) -> list[int]:
    """The next seeds that no run of the autopilot has used."""
    used = {launch.seed for launch in (*state.launches.values(), *state.interrupted.values())}
    return choose_new_seeds(request.first_seed, wanted=len(used) + wanted, existing=used)


def launch_missing(
    state: AutopilotState,
    stage: AutopilotStage,
    runs: Iterable[tuple[Arm, int]],
    *,
    epochs: int,
    cost_s: float,
) -> tuple[RunLaunch, ...]:
    """Launches of those pairs of arm and seed that the stage does not have.

    `cost_s` is that of all of them, shared equally.
    """
    missing = [(arm, seed) for arm, seed in runs if (stage, arm.name, seed) not in state.launches]
    return tuple(
        _launch(state, stage, arm, seed, epochs=epochs, planned_s=cost_s / len(missing))
        for arm, seed in missing
    )


def launch_within_budget(
    request: AutopilotRequest, state: AutopilotState, launches: tuple[RunLaunch, ...]
) -> Decisions:
    """The launches; the end of their stage if the budget does not suffice for all of them."""
    needed_s = sum(launch.planned_s for launch in launches)
    free_s = remaining_s(request, state)
    if needed_s <= free_s:
        return launches
    message = (
        f"The next {len(launches)} runs need {format_device_time(needed_s)}, and the budget has "
        f"{format_device_time(max(0.0, free_s))} left; extend it to go on."
    )
    return (StageEnd(stage=launches[0].stage, result="out_of_budget", message=message),)


def _launch(
    state: AutopilotState,
    stage: AutopilotStage,
    arm: Arm,
    seed: int,
    *,
    epochs: int,
    planned_s: float,
) -> RunLaunch:
    interrupted = state.interrupted.get((stage, arm.name, seed))
    key = f"{stage}.{arm.name}.{seed}"
    return RunLaunch(
        key=key if interrupted is None else f"{interrupted.key}+",
        stage=stage,
        arm=arm,
        seed=seed,
        epochs=epochs,
        planned_s=planned_s,
        continues=None if interrupted is None else interrupted.key,
    )
