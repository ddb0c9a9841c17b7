"""The strategy for BCKD's weights: anchors, each weight by itself, a check around the best."""

import pytest

from configs.protocol.sweep_log import TrialSuggested
from configs.spec.search import CoordinateSearch
from tests.support.workers.sweeps import (
    CLS,
    LOC,
    a_choice,
    a_log_range,
    a_sweep,
    a_trial,
    an_integer,
    goodness,
    played,
    values_of,
)
from workers.search.coordinate import neighbors
from workers.search.space import Wait, point_key
from workers.search.suggest import suggest
from workers.search.sweep_log import ReplayedSweep

SWEEP = a_sweep(algorithm=CoordinateSearch(points=5))


def weights(history: ReplayedSweep) -> list[tuple[float, float]]:
    return [(float(values[CLS]), float(values[LOC])) for values in values_of(history)]


def test_it_takes_anchors_then_each_weight_then_a_check_around_the_best() -> None:
    there = weights(played(SWEEP, 100))

    assert there[:3] == [(1, 0), (0, 4), (1, 4)]
    assert there[3:7] == [(0.25, 4), (0.5, 4), (2, 4), (4, 4)]
    assert there[7:11] == [(1, 1), (1, 2), (1, 8), (1, 16)]
    assert there[11:] == [
        (round(cls, 6), round(loc, 5))
        for cls in (0.707107, 1, 1.41421)
        for loc in (2.82843, 4, 5.65685)
        if (cls, loc) != (1, 4)
    ]
    assert len(set(there)) == len(there)


def test_it_waits_for_what_it_needs_to_know() -> None:
    history = ReplayedSweep(SWEEP)
    for number in range(3):
        values = suggest(history.active_spec, history.trials)
        assert isinstance(values, dict)
        history.add(TrialSuggested(number=number, values=values))

    assert suggest(history.active_spec, history.trials) == Wait()

    for number, values in enumerate(values_of(history)):
        for entry in a_trial(number, values, goodness(values))[1:]:
            history.add(entry)
    assert suggest(history.active_spec, history.trials) == {CLS: 0.25, LOC: 4.0}


def test_trials_that_failed_are_never_the_best() -> None:
    history = played(SWEEP, 100, score=lambda one: None if one[LOC] == 4.0 else goodness(one))

    assert weights(history)[3] == (0.25, 0)


def test_where_every_trial_failed_the_published_setting_stands() -> None:
    history = played(SWEEP, 100, score=lambda _: None)

    assert weights(history)[3] == (0.25, 4)


def test_the_student_alone_is_no_trial() -> None:
    space = {CLS: a_choice(0.0, 1.0, 2.0), LOC: a_choice(0.0, 4.0)}
    history = played(
        a_sweep(algorithm=CoordinateSearch(points=3), space=space),
        100,
        score=lambda one: float(one[CLS]) - float(one[LOC]),
    )

    assert (0, 0) not in weights(history)
    assert len({point_key(one) for one in values_of(history)}) == len(history.trials)


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (a_log_range(0.25, 4), 4.0, (2.82843, 4.0)),
        (a_log_range(1, 16), 0.0, (0.0, 1.0)),
        (a_choice(1, 2, 4), 2.0, (1.0, 2.0, 4.0)),
        (an_integer(1, 16, log=True), 4.0, (3.0, 4.0, 6.0)),
    ],
    ids=["at the edge", "nothing", "a choice", "whole numbers"],
)
def test_neighbours_lie_within_the_range(
    parameter: object, value: float, expected: tuple[float, ...]
) -> None:
    assert neighbors(parameter, value, points=5) == expected  # type: ignore[arg-type]
