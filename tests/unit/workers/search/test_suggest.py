"""The next trial follows from the list alone: by grid, by chance, by TPE."""

import pytest

from configs.protocol.names import Metric
from configs.protocol.sweep_log import SweepExtended, TrialEnded, TrialJudged, TrialSuggested
from configs.spec.search import (
    Algorithm,
    Asha,
    Choice,
    GridSearch,
    Parameter,
    RandomSearch,
    Tpe,
)
from configs.spec.sweep import Budget, Objective, SweepSpec
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
from workers.search.space import Wait, point_key
from workers.search.suggest import suggest
from workers.search.sweep_log import ReplayedSweep

ALGORITHMS: dict[str, Algorithm] = {
    "grid": GridSearch(points=4),
    "random": RandomSearch(),
    "tpe": Tpe(startup=4),
}
METHOD = "distillation.method"
MIXED: dict[str, Parameter] = {
    METHOD: a_choice("bckd", "pkd"),
    CLS: Choice(values=(0.5, 1.0, 2.0), when={METHOD: ("bckd",)}),
    "distillation.weight": an_integer(3, 5, when={METHOD: ("pkd",)}),
}

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS.keys())


@each_algorithm
def test_a_search_that_is_rebuilt_suggests_what_the_first_one_did(algorithm: Algorithm) -> None:
    spec = a_sweep(algorithm=algorithm, seed=3)
    whole = played(spec, 12)

    for number, trial in enumerate(whole.trials):
        again = SweepSpec.model_validate_json(spec.model_dump_json())
        history = ReplayedSweep(again)
        for known in whole.trials[:number]:
            for entry in a_trial(known.number, known.values, goodness(known.values)):
                history.add(entry)
        assert suggest(history.active_spec, history.trials) == trial.values


@each_algorithm
def test_no_point_comes_twice_and_a_space_with_an_end_is_exhausted(algorithm: Algorithm) -> None:
    spec = a_sweep(algorithm=algorithm, space=MIXED)

    history = played(spec, 100, score=lambda values: float(len(values)))

    assert len(history.trials) == 6
    assert len({point_key(values) for values in values_of(history)}) == 6
    assert suggest(history.active_spec, history.trials) is None


@pytest.mark.parametrize("algorithm", [RandomSearch(), Tpe(startup=2)], ids=["random", "tpe"])
def test_another_seed_is_another_search(algorithm: Algorithm) -> None:
    one, other = (played(a_sweep(algorithm=algorithm, seed=seed), 4) for seed in (0, 1))

    assert not set(map(point_key, values_of(one))) & set(map(point_key, values_of(other)))


def test_a_grid_has_every_combination_in_a_fixed_order() -> None:
    history = played(a_sweep(algorithm=GridSearch(points=2)), 10)

    assert values_of(history) == [
        {CLS: 0.25, LOC: 1.0},
        {CLS: 0.25, LOC: 16.0},
        {CLS: 4.0, LOC: 1.0},
        {CLS: 4.0, LOC: 16.0},
    ]


@each_algorithm
def test_points_that_a_person_names_come_first_and_once(algorithm: Algorithm) -> None:
    named = ({CLS: 0.25, LOC: 1}, {CLS: 1.0, LOC: 0.0}, {LOC: 2.0}, {CLS: 1, LOC: 0})

    history = played(
        a_sweep(algorithm=algorithm, first=named), 8, score=lambda values: float(len(values))
    )

    assert values_of(history)[:3] == list(named[:3])
    assert len({point_key(values) for values in values_of(history)}) == 8


def test_tpe_ends_nearer_to_the_best_than_chance() -> None:
    chance, tpe = (
        [goodness(values) for values in values_of(played(a_sweep(algorithm=algorithm), 40))[20:]]
        for algorithm in (RandomSearch(), Tpe(startup=8))
    )

    assert sum(tpe) / len(tpe) > sum(chance) / len(chance) + 0.01


def test_trials_of_one_pack_differ_though_none_of_them_has_ended() -> None:
    history = played(a_sweep(algorithm=Tpe(startup=4)), 10)

    for number in range(10, 18):
        values = suggest(history.active_spec, history.trials)
        assert isinstance(values, dict)
        history.add(TrialSuggested(number=number, values=values))

    pack = values_of(history)[10:]
    assert len({values[CLS] for values in pack}) == 8
    assert max(map(by_cls, pack)) / min(map(by_cls, pack)) > 1.5


def by_cls(values: dict[str, bool | int | float | str]) -> float:
    return float(values[CLS])


def test_what_ended_badly_or_was_stopped_is_known_to_tpe() -> None:
    spec = a_sweep(algorithm=Tpe(startup=2), scheduler=Asha())
    history = played(spec, 6, score=lambda values: None if float(values[CLS]) > 1 else 0.4)
    stopped = {Metric.MAP: 0.1}
    history.add(TrialSuggested(number=6, values={CLS: 0.3, LOC: 2.0}))
    history.add(TrialJudged(number=6, epoch=1, values=stopped, should_continue=False))
    history.add(TrialEnded(number=6, result="stopped", epoch=1, values=stopped))

    assert isinstance(suggest(history.active_spec, history.trials), dict)


def test_several_objectives_each_have_their_direction() -> None:
    objectives = (Objective(), Objective(metric="inference/latency_p50_ms", goal="min"))
    history = ReplayedSweep(a_sweep(algorithm=Tpe(startup=4), objectives=objectives))
    for number in range(20):
        values = suggest(history.active_spec, history.trials)
        assert isinstance(values, dict)
        told = {Metric.MAP: goodness(values), "inference/latency_p50_ms": float(values[CLS])}
        history.add(TrialSuggested(number=number, values=values))
        history.add(TrialEnded(number=number, result="finished", epoch=9, values=told))

    late = sorted(float(values[CLS]) for values in values_of(history)[10:])

    assert late[len(late) // 2] < 1.0


@each_algorithm
def test_what_a_person_extends_holds_for_later_trials(algorithm: Algorithm) -> None:
    history = played(a_sweep(algorithm=algorithm, budget=Budget(trials=4)), 4)
    space: dict[str, Parameter] = {CLS: a_log_range(8, 16), LOC: a_log_range(1, 2)}
    history.add(
        SweepExtended(by="me", budget=Budget(trials=8), space=space, algorithm=ALGORITHMS["random"])
    )

    values = suggest(history.active_spec, history.trials)

    assert not isinstance(values, Wait)
    assert values is not None
    assert float(values[CLS]) >= 8
    assert history.active_spec.budget.trials == 8
