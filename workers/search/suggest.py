"""The next trial of a sweep, as a deterministic function of its log."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from functools import partial
from random import Random

from configs.grids import grid_values, iter_points
from configs.protocol.sweep_log import Trial
from configs.spec.search import GridSearch, RandomSearch, Tpe
from configs.spec.sweep import SweepSpec, Values
from workers.search.coordinate import suggest_by_coordinate
from workers.search.space import (
    Wait,
    all_values,
    build_point,
    is_countable,
    point_key,
    sample,
)
from workers.search.tpe import suggest_by_tpe

_MAX_DRAWS = 64
"""Random draws before the points of a finite space are enumerated instead."""

_MAX_TPE_DRAWS = 4
"""Suggestions from TPE, which may repeat a point, before a random point is taken instead."""


def suggest(spec: SweepSpec, trials: Sequence[Trial]) -> Values | Wait | None:
    """Suggest the values of trial number `len(trials)`; None once the space is exhausted.

    The spec's initial points come first, then those of the algorithm. No point is repeated.
    """
    tried = {point_key(trial.values) for trial in trials}
    for values in spec.initial_points:
        if point_key(values) not in tried:
            return dict(values)
    if isinstance(spec.algorithm, GridSearch):
        steps = partial(grid_values, count=spec.algorithm.points)
        return _first_unseen(iter_points(spec.space, steps), tried)
    if isinstance(spec.algorithm, RandomSearch):
        return _sample_unseen(spec, trials)
    if isinstance(spec.algorithm, Tpe):
        return _suggest_unseen_by_tpe(spec, spec.algorithm, trials)
    return suggest_by_coordinate(spec, spec.algorithm, trials)


def _suggest_unseen_by_tpe(
    spec: SweepSpec, algorithm: Tpe, trials: Sequence[Trial]
) -> Values | None:
    tried = {point_key(trial.values) for trial in trials}
    for draw in range(_MAX_TPE_DRAWS):
        values = suggest_by_tpe(spec, algorithm, trials, draw=draw)
        if point_key(values) not in tried:
            return values
    return _sample_unseen(spec, trials)


def _sample_unseen(spec: SweepSpec, trials: Sequence[Trial]) -> Values | None:
    tried = {point_key(trial.values) for trial in trials}
    random = Random(f"{spec.seed}/{len(trials)}")
    for _ in range(_MAX_DRAWS):
        values = build_point(spec.space, lambda _, parameter: sample(parameter, random))
        if point_key(values) not in tried:
            return values
    if not is_countable(spec.space):
        return values
    return _first_unseen(iter_points(spec.space, all_values), tried)


def _first_unseen(points: Iterable[Values], tried: Collection[Hashable]) -> Values | None:
    return next((values for values in points if point_key(values) not in tried), None)
