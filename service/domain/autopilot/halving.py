"""Successive halving of the methods on the first seed of the screening.

Runs keep the full schedule and are compared at the same epoch of it.
"""

import itertools
import math

from configs.protocol.probe import Costs
from service.domain.autopilot.budget import packs_s
from service.domain.autopilot.history import RunLaunch, RunStop
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.state import AutopilotState

_FACTOR = 2
"""Of the arms that have reached a rung, one in so many goes on."""

_MIN_SURPLUS = 1
"""So many more arms than there are finalists train to the end, if there are enough."""

_RUNG_FRACTIONS = (1 / 4, 1 / 2)
"""Of the epochs. DECISIONS 104 has the figures of others."""


def list_rungs(request: AutopilotRequest) -> tuple[int, ...]:
    """The epochs at which arms are compared; those of an evaluation."""
    every = request.every_epochs
    rungs = {
        math.ceil(round(request.epochs * fraction / every, 6)) * every
        for fraction in _RUNG_FRACTIONS
    }
    return tuple(sorted(rung for rung in rungs if rung < request.epochs))


def count_survivors(request: AutopilotRequest, arms: int) -> int:
    """How many of the arms that have reached a rung go on."""
    return max(request.finalists + _MIN_SURPLUS, math.ceil(arms / _FACTOR))


def halving_cost_s(request: AutopilotRequest, costs: Costs, *, methods: int) -> float:
    """Expected device seconds for so many methods and the baseline."""
    bounds = (0, *list_rungs(request), request.epochs)
    total_s, arms = 0.0, methods
    for start, end in itertools.pairwise(bounds):
        total_s += packs_s(request, costs, students=arms + 1, epochs=end - start, has_teacher=True)
        arms = min(arms, count_survivors(request, arms))
    return total_s


def judge_rungs(request: AutopilotRequest, state: AutopilotState) -> tuple[RunStop, ...]:
    """Stops of the first seed's runs at the highest rung that each has reached.

    A rung is judged once all runs that have started have reached it, so that the order of their
    reports does not matter; only runs that had to wait for a free node come later.
    """
    first = state.list_seeds("screening")[:1]
    runs = [
        launch
        for launch in state.list_runs("screening")
        if launch.arm.role == "distilled" and launch.seed in first
    ]
    stops: list[RunStop] = []
    for rung in list_rungs(request):
        maps = {launch.key: _map_at(state, launch, rung) for launch in runs}
        reached = [launch for launch in runs if maps[launch.key] is not None]
        if any(_is_training(state, launch) for launch in runs if maps[launch.key] is None):
            break
        ranked = sorted(reached, key=lambda launch: maps[launch.key] or 0.0, reverse=True)
        survivors = count_survivors(request, len(ranked))
        for rank, launch in enumerate(ranked[survivors:], start=survivors + 1):
            if state.is_live(launch) and _highest_rung(request, state, launch) == rung:
                message = f"It was number {rank} of {len(ranked)} after epoch {rung}."
                stops.append(RunStop(key=launch.key, reason="screened_out", message=message))
        stopped = {stop.key for stop in stops}
        runs = [launch for launch in runs if launch.key not in stopped]
    return tuple(stops)


def _map_at(state: AutopilotState, launch: RunLaunch, epoch: int) -> float | None:
    outcome = state.outcomes.get(launch.key)
    return None if outcome is None else outcome.maps.get(epoch)


def _is_training(state: AutopilotState, launch: RunLaunch) -> bool:
    outcome = state.outcomes.get(launch.key)
    return outcome is not None and outcome.state == "running" and state.is_live(launch)


def _highest_rung(request: AutopilotRequest, state: AutopilotState, launch: RunLaunch) -> int:
    return max(
        (rung for rung in list_rungs(request) if _map_at(state, launch, rung) is not None),
        default=0,
    )
