"""Coordinate search over BCKD's two weights: anchors, each weight alone, then around the best.

The two terms act on separate towers of the head, so this is cheaper than a grid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from configs.grids import grid_values
from configs.protocol.sweep_log import Trial
from configs.spec.search import Choice, CoordinateSearch, Integer, Parameter
from configs.spec.sweep import SweepSpec, Values
from workers.search.space import Wait, point_key
from workers.search.sweep_log import score

CLS, LOC = "distillation.cls_weight", "distillation.loc_weight"

Weights = tuple[float, float]
"""Weights of the classification and the localization term."""

ANCHORS: tuple[Weights, ...] = ((1.0, 0.0), (0.0, 4.0), (1.0, 4.0))
"""Each term alone, then the published weights. (0, 0) is the sweep's baseline and no trial."""

_PUBLISHED_WEIGHTS = ANCHORS[-1]
_NO_DISTILLATION: Weights = (0.0, 0.0)


@dataclass(frozen=True)
class _ScoredTrials:
    """The trials so far, by point, with their scores."""

    spec: SweepSpec
    trials: dict[object, Trial]

    def best(self, points: Sequence[Weights]) -> Weights:
        pairs = [(self._score(weights), weights) for weights in points]
        valid = [(score, weights) for score, weights in pairs if score is not None]
        # `max` returns the first of equal scores.
        return max(valid, key=lambda pair: pair[0])[1] if valid else _PUBLISHED_WEIGHTS

    def _score(self, weights: Weights) -> tuple[bool, float] | None:
        return score(self.trials[point_key(_values(weights))], self.spec.objectives[0])


def suggest_by_coordinate(
    spec: SweepSpec, algorithm: CoordinateSearch, trials: Sequence[Trial]
) -> Values | Wait | None:
    """Suggest the first point without a trial in the first unfinished stage.

    `Wait` while the stage's trials are running, None once all stages are finished.
    """
    scored = _ScoredTrials(spec, {point_key(trial.values): trial for trial in trials})
    cls_steps, loc_steps = (
        tuple(float(step) for step in grid_values(spec.space[path], algorithm.points))
        for path in (CLS, LOC)
    )
    stages: tuple[Callable[[list[Weights]], list[Weights]], ...] = (
        lambda _: list(ANCHORS),
        lambda before: [(step, scored.best(before)[1]) for step in cls_steps],
        lambda before: [(scored.best(before)[0], step) for step in loc_steps],
        lambda before: _points_around(scored.best(before), spec, algorithm.points),
    )
    visited: list[Weights] = []
    for stage in stages:
        points = [weights for weights in stage(visited) if weights != _NO_DISTILLATION]
        for weights in points:
            if point_key(_values(weights)) not in scored.trials:
                return _values(weights)
        if any(scored.trials[point_key(_values(weights))].ended is None for weights in points):
            return Wait()
        visited += points
    return None


def _values(weights: Weights) -> Values:
    return {CLS: weights[0], LOC: weights[1]}


def _points_around(best: Weights, spec: SweepSpec, points: int) -> list[Weights]:
    cls, loc = (
        neighbors(spec.space[path], weight, points=points)
        for path, weight in zip((CLS, LOC), best, strict=True)
    )
    return [(cls_weight, loc_weight) for cls_weight in cls for loc_weight in loc]


def neighbors(parameter: Parameter, value: float, *, points: int) -> tuple[float, ...]:
    """The value with the values half a logarithmic step below and above it, within the range.

    For 0: the value and the smallest positive step. For a choice: with the next options.
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
