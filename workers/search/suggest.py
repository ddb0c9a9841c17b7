"""The next trial of a sweep, as a function of its list alone: who asks again gets the same."""

from collections.abc import Sequence
from functools import partial
from random import Random

from configs.protocol.sweep_log import Trial
from configs.spec.search import GridSearch, RandomSearch, Tpe
from configs.spec.sweep import SweepSpec, Values
from workers.search.coordinate import suggest_by_coordinate
from workers.search.space import (
    Wait,
    all_values,
    build_point,
    grid_values,
    is_countable,
    iter_points,
    point_key,
    sample,
)
from workers.search.tpe import suggest_by_tpe

_DRAWS = 64
"""By chance, before the points of a countable space are counted out."""

_TPE_DRAWS = 4
"""TPE may well name a point again; so many times it is asked anew, then chance decides."""


def suggest(plan: SweepSpec, trials: Sequence[Trial]) -> Values | Wait | None:
    """Values of trial number `len(trials)`; none: the space is exhausted.

    First come the points that the spec names, then those of the algorithm. No point comes twice.
    """
    tried = {point_key(trial.values) for trial in trials}
    for values in plan.initial_points:
        if point_key(values) not in tried:
            return dict(values)
    if isinstance(plan.algorithm, GridSearch):
        steps = partial(grid_values, count=plan.algorithm.points)
        return next(
            (one for one in iter_points(plan.space, steps) if point_key(one) not in tried), None
        )
    if isinstance(plan.algorithm, RandomSearch):
        return _by_chance(plan, trials)
    if isinstance(plan.algorithm, Tpe):
        return _by_tpe(plan, plan.algorithm, trials)
    return suggest_by_coordinate(plan, plan.algorithm, trials)


def _by_tpe(plan: SweepSpec, algorithm: Tpe, trials: Sequence[Trial]) -> Values | None:
    tried = {point_key(trial.values) for trial in trials}
    for draw in range(_TPE_DRAWS):
        values = suggest_by_tpe(plan, algorithm, trials, draw=draw)
        if point_key(values) not in tried:
            return values
    return _by_chance(plan, trials)


def _by_chance(plan: SweepSpec, trials: Sequence[Trial]) -> Values | None:
    tried = {point_key(trial.values) for trial in trials}
    random = Random(f"{plan.seed}/{len(trials)}")
    for _ in range(_DRAWS):
        values = build_point(plan.space, lambda _, parameter: sample(parameter, random))
        if point_key(values) not in tried:
            return values
    if not is_countable(plan.space):
        return values
    return next(
        (one for one in iter_points(plan.space, all_values) if point_key(one) not in tried), None
    )
