"""Grids that an autopilot is compared with: every method with every seed, and no early stop."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain.autopilot.baseline import LEARNING_RATE
from service.domain.autopilot.budget import packs_s
from service.domain.autopilot.history import Arm
from service.domain.autopilot.request import BASELINE, AutopilotRequest
from service.domain.autopilot.sequential_test import ERROR_RATE, lower_bound
from tests.support.autopilot.worlds import World

_FIRST_SEED = 100_000


@dataclass(frozen=True)
class GridResult:
    """What a grid selects."""

    best: str
    """The method with the best mean, whether or not it is claimed."""

    claimed: str | None
    """The best of those whose gain is claimed; the probability of a false claim is at most 5 %,
    over all methods. None if none is, or with one seed."""


def grid_seed_cost_s(request: AutopilotRequest, *, learning_rates: int = 1) -> float:
    """Device seconds of all methods with one seed, and of the student alone with each learning
    rate, in packs."""
    return packs_s(
        request,
        request.students[0].costs,
        students=len(request.methods) + learning_rates,
        epochs=request.epochs,
        has_teacher=True,
    )


def run_grid(world: World, request: AutopilotRequest, *, seeds: int, repeat: int = 0) -> GridResult:
    """The grid's result, with the learning rate of the preset. Another `repeat` has other seeds."""
    first = _FIRST_SEED * (1 + repeat)
    baseline = _maps(world, request, BASELINE, range(first, first + seeds))
    gains = {
        option.name: [
            value - reference
            for value, reference in zip(
                _maps(world, request, option.name, range(first, first + seeds)),
                baseline,
                strict=True,
            )
        ]
        for option in request.methods
    }
    means = {name: statistics.fmean(values) for name, values in gains.items()}
    claimed = _claim(gains) if seeds > 1 else frozenset()
    return GridResult(
        best=max(means, key=lambda name: means[name]),
        claimed=max(sorted(claimed), key=lambda name: means[name], default=None),
    )


def _maps(world: World, request: AutopilotRequest, name: str, seeds: Sequence[int]) -> list[float]:
    arm = Arm(
        name=name,
        role="baseline" if name == BASELINE else "distilled",
        values={LEARNING_RATE: request.learning_rate},
    )
    return [max(world.curve(arm, seed).values()) for seed in seeds]


def _claim(gains: Mapping[str, Sequence[float]]) -> frozenset[str]:
    """Holm's method."""
    claimed: frozenset[str] = frozenset()
    while len(claimed) < len(gains):
        level = ERROR_RATE / (len(gains) - len(claimed))
        new = {
            name
            for name, values in gains.items()
            if name not in claimed and lower_bound(values, level=level) > 0.0
        }
        if not new:
            break
        claimed |= new
    return claimed
