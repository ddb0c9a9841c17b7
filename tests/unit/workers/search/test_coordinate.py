"""Coordinate search over BCKD's weights: anchors, each weight alone, then around the best."""

import pytest

from configs.protocol.sweep_log import TrialSuggested
from configs.spec.search import CoordinateSearch
from tests.support.workers.sweeps import (
    CLS,
    LOC,
    compute_score,
    list_trial_values,
    make_choice,
    make_integer,
    make_log_uniform,
    make_sweep,
    make_trial_entries,
    run_search,
)
from workers.search.coordinate import neighbors
from workers.search.space import Wait, point_key
from workers.search.suggest import suggest
from workers.search.sweep_log import ReplayedSweep

SWEEP = make_sweep(algorithm=CoordinateSearch(points=5))


def list_weights(sweep: ReplayedSweep) -> list[tuple[float, float]]:
    return [(float(values[CLS]), float(values[LOC])) for values in list_trial_values(sweep)]


def test_it_takes_anchors_then_each_weight_then_a_check_around_the_best() -> None:
    points = list_weights(run_search(SWEEP, 100))

    assert points[:3] == [(1, 0), (0, 4), (1, 4)]
    assert points[3:7] == [(0.25, 4), (0.5, 4), (2, 4), (4, 4)]
    assert points[7:11] == [(1, 1), (1, 2), (1, 8), (1, 16)]
    assert points[11:] == [
        (round(cls, 6), round(loc, 5))
        for cls in (0.707107, 1, 1.41421)
        for loc in (2.82843, 4, 5.65685)
        if (cls, loc) != (1, 4)
    ]
    assert len(set(points)) == len(points)


def test_it_waits_for_the_results_of_a_stage() -> None:
    sweep = ReplayedSweep(SWEEP)
    for number in range(3):
        values = suggest(sweep.active_spec, sweep.trials)
        assert isinstance(values, dict)
        sweep.add(TrialSuggested(number=number, values=values))

    assert suggest(sweep.active_spec, sweep.trials) == Wait()

    for number, values in enumerate(list_trial_values(sweep)):
        for entry in make_trial_entries(number, values, compute_score(values))[1:]:
            sweep.add(entry)
    assert suggest(sweep.active_spec, sweep.trials) == {CLS: 0.25, LOC: 4.0}


def test_trials_that_failed_are_never_the_best() -> None:
    sweep = run_search(
        SWEEP, 100, score=lambda values: None if values[LOC] == 4.0 else compute_score(values)
    )

    assert list_weights(sweep)[3] == (0.25, 0)


def test_the_published_weights_are_the_best_where_every_trial_failed() -> None:
    sweep = run_search(SWEEP, 100, score=lambda _: None)

    assert list_weights(sweep)[3] == (0.25, 4)


def test_the_student_alone_is_no_trial() -> None:
    space = {CLS: make_choice(0.0, 1.0, 2.0), LOC: make_choice(0.0, 4.0)}
    sweep = run_search(
        make_sweep(algorithm=CoordinateSearch(points=3), space=space),
        100,
        score=lambda values: float(values[CLS]) - float(values[LOC]),
    )

    assert (0, 0) not in list_weights(sweep)
    assert len({point_key(values) for values in list_trial_values(sweep)}) == len(sweep.trials)


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (make_log_uniform(0.25, 4), 4.0, (2.82843, 4.0)),
        (make_log_uniform(1, 16), 0.0, (0.0, 1.0)),
        (make_choice(1, 2, 4), 2.0, (1.0, 2.0, 4.0)),
        (make_integer(1, 16, log=True), 4.0, (3.0, 4.0, 6.0)),
    ],
    ids=["at the edge", "zero", "a choice", "integers"],
)
def test_neighbors_lie_within_the_range(
    parameter: object, value: float, expected: tuple[float, ...]
) -> None:
    assert neighbors(parameter, value, points=5) == expected  # type: ignore[arg-type]
