"""The two weights of BCKD: anchors, each weight by itself, then a check around the best.

The terms act on separate towers of the head, so this is cheaper than a grid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from configs.protocol.sweep_log import Trial
from configs.spec.search import Choice, CoordinateSearch, Integer, Parameter
from configs.spec.sweep import SweepSpec, Values
from workers.search.space import Wait, grid_values, point_key
from workers.search.sweep_log import score

CLS, LOC = "distillation.cls_weight", "distillation.loc_weight"

Weights = tuple[float, float]
"""Of the classification and of the localization term."""

ANCHORS: tuple[Weights, ...] = ((1.0, 0.0), (0.0, 4.0), (1.0, 4.0))
"""The published setting, and each term alone; the student alone is the sweep's baseline."""

_PUBLISHED = ANCHORS[-1]
_NOTHING: Weights = (0.0, 0.0)


@dataclass(frozen=True)
class _Known:
    """Points of the stages so far, and how good they were."""

    plan: SweepSpec
    trials: dict[object, Trial]

    def best(self, points: Sequence[Weights]) -> Weights:
        scored = [(self._score(weights), weights) for weights in points]
        useful = [(score, weights) for score, weights in scored if score is not None]
        # Of equals the first.
        return max(useful, key=lambda one: one[0])[1] if useful else _PUBLISHED

    def _score(self, weights: Weights) -> tuple[bool, float] | None:
        return score(self.trials[point_key(_values(weights))], self.plan.objectives[0])


def suggest_by_coordinate(
    plan: SweepSpec, algorithm: CoordinateSearch, trials: Sequence[Trial]
) -> Values | Wait | None:
    """The first point of the first stage that is not over."""
    known = _Known(plan, {point_key(trial.values): trial for trial in trials})
    cls_steps, loc_steps = (
        tuple(float(step) for step in grid_values(plan.space[path], algorithm.points))
        for path in (CLS, LOC)
    )
    stages: tuple[Callable[[list[Weights]], list[Weights]], ...] = (
        lambda _: list(ANCHORS),
        lambda before: [(step, known.best(before)[1]) for step in cls_steps],
        lambda before: [(known.best(before)[0], step) for step in loc_steps],
        lambda before: _around(known.best(before), plan, algorithm.points),
    )
    so_far: list[Weights] = []
    for stage in stages:
        points = [weights for weights in stage(so_far) if weights != _NOTHING]
        for weights in points:
            if point_key(_values(weights)) not in known.trials:
                return _values(weights)
        if any(known.trials[point_key(_values(weights))].ended is None for weights in points):
            return Wait()
        so_far += points
    return None


def _values(weights: Weights) -> Values:
    return {CLS: weights[0], LOC: weights[1]}


def _around(best: Weights, plan: SweepSpec, points: int) -> list[Weights]:
    cls, loc = (
        neighbors(plan.space[path], weight, points=points)
        for path, weight in zip((CLS, LOC), best, strict=True)
    )
    return [(one, other) for one in cls for other in loc]


def neighbors(parameter: Parameter, value: float, *, points: int) -> tuple[float, ...]:
    """A value between the two that lie half a step (by magnitude) beside it, within the range.

    Beside 0 lies the smallest step; beside a value of a choice its next ones.
    """
    steps = sorted(float(step) for step in grid_values(parameter, points))
    if isinstance(parameter, Choice):
        below, above = (
            [step for step in steps if step < value],
            [step for step in steps if step > value],
        )
        return (*below[-1:], value, *above[:1])
    positive = [step for step in steps if step > 0]
    if value <= 0:
        return (value, *positive[:1])
    factor = math.sqrt((positive[-1] / positive[0]) ** (1 / max(len(positive) - 1, 1)))
    smaller = _rounded(parameter, max(value / factor, min(steps[0], value)))
    larger = _rounded(parameter, min(value * factor, max(steps[-1], value)))
    return tuple(dict.fromkeys((smaller, value, larger)))


def _rounded(parameter: Parameter, weight: float) -> float:
    return float(round(weight)) if isinstance(parameter, Integer) else float(f"{weight:.6g}")
