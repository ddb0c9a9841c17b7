"""The next trial depends on the log alone: grid search, random search, TPE."""

import pytest

from configs.metric_keys import Metric
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
    compute_score,
    list_trial_values,
    make_choice,
    make_integer,
    make_log_uniform,
    make_sweep,
    make_trial_entries,
    run_search,
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
    METHOD: make_choice("bckd", "pkd"),
    CLS: Choice(values=(0.5, 1.0, 2.0), when={METHOD: ("bckd",)}),
    "distillation.weight": make_integer(3, 5, when={METHOD: ("pkd",)}),
}

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS.keys())


@each_algorithm
def test_a_rebuilt_search_suggests_the_same_trials(algorithm: Algorithm) -> None:
    spec = make_sweep(algorithm=algorithm, seed=3)
    full_search = run_search(spec, 12)

    for number, trial in enumerate(full_search.trials):
        reparsed = SweepSpec.model_validate_json(spec.model_dump_json())
        sweep = ReplayedSweep(reparsed)
        for earlier in full_search.trials[:number]:
            for entry in make_trial_entries(
                earlier.number, earlier.values, compute_score(earlier.values)
            ):
                sweep.add(entry)
        assert suggest(sweep.active_spec, sweep.trials) == trial.values


@each_algorithm
def test_no_point_is_repeated_and_a_finite_space_is_exhausted(algorithm: Algorithm) -> None:
    spec = make_sweep(algorithm=algorithm, space=MIXED)

    sweep = run_search(spec, 100, score=lambda values: float(len(values)))

    assert len(sweep.trials) == 6
    assert len({point_key(values) for values in list_trial_values(sweep)}) == 6
    assert suggest(sweep.active_spec, sweep.trials) is None


@pytest.mark.parametrize("algorithm", [RandomSearch(), Tpe(startup=2)], ids=["random", "tpe"])
def test_another_seed_is_another_search(algorithm: Algorithm) -> None:
    first, second = (run_search(make_sweep(algorithm=algorithm, seed=seed), 4) for seed in (0, 1))

    assert not set(map(point_key, list_trial_values(first))) & set(
        map(point_key, list_trial_values(second))
    )


def test_a_grid_has_every_combination_in_a_fixed_order() -> None:
    sweep = run_search(make_sweep(algorithm=GridSearch(points=2)), 10)

    assert list_trial_values(sweep) == [
        {CLS: 0.25, LOC: 1.0},
        {CLS: 0.25, LOC: 16.0},
        {CLS: 4.0, LOC: 1.0},
        {CLS: 4.0, LOC: 16.0},
    ]


@each_algorithm
def test_initial_points_come_first_and_once(algorithm: Algorithm) -> None:
    named = ({CLS: 0.25, LOC: 1}, {CLS: 1.0, LOC: 0.0}, {LOC: 2.0}, {CLS: 1, LOC: 0})

    sweep = run_search(
        make_sweep(algorithm=algorithm, initial_points=named),
        8,
        score=lambda values: float(len(values)),
    )

    assert list_trial_values(sweep)[:3] == list(named[:3])
    assert len({point_key(values) for values in list_trial_values(sweep)}) == 8


def test_tpe_ends_nearer_to_the_best_than_chance() -> None:
    chance, tpe = (
        [
            compute_score(values)
            for values in list_trial_values(run_search(make_sweep(algorithm=algorithm), 40))[20:]
        ]
        for algorithm in (RandomSearch(), Tpe(startup=8))
    )

    assert sum(tpe) / len(tpe) > sum(chance) / len(chance) + 0.01


def test_trials_of_one_pack_differ_though_none_of_them_has_ended() -> None:
    sweep = run_search(make_sweep(algorithm=Tpe(startup=4)), 10)

    for number in range(10, 18):
        values = suggest(sweep.active_spec, sweep.trials)
        assert isinstance(values, dict)
        sweep.add(TrialSuggested(number=number, values=values))

    pack = list_trial_values(sweep)[10:]
    assert len({values[CLS] for values in pack}) == 8
    assert max(map(score_by_cls, pack)) / min(map(score_by_cls, pack)) > 1.5


def score_by_cls(values: dict[str, bool | int | float | str]) -> float:
    return float(values[CLS])


def test_what_ended_badly_or_was_stopped_is_known_to_tpe() -> None:
    spec = make_sweep(algorithm=Tpe(startup=2), scheduler=Asha())
    sweep = run_search(spec, 6, score=lambda values: None if float(values[CLS]) > 1 else 0.4)
    stopped_values = {Metric.MAP: 0.1}
    sweep.add(TrialSuggested(number=6, values={CLS: 0.3, LOC: 2.0}))
    sweep.add(TrialJudged(number=6, epoch=1, values=stopped_values, should_continue=False))
    sweep.add(TrialEnded(number=6, result="stopped", epoch=1, values=stopped_values))

    assert isinstance(suggest(sweep.active_spec, sweep.trials), dict)


def test_several_objectives_each_have_their_direction() -> None:
    objectives = (Objective(), Objective(metric="inference/latency_p50_ms", goal="min"))
    sweep = ReplayedSweep(make_sweep(algorithm=Tpe(startup=4), objectives=objectives))
    for number in range(20):
        values = suggest(sweep.active_spec, sweep.trials)
        assert isinstance(values, dict)
        metrics = {
            Metric.MAP: compute_score(values),
            "inference/latency_p50_ms": float(values[CLS]),
        }
        sweep.add(TrialSuggested(number=number, values=values))
        sweep.add(TrialEnded(number=number, result="finished", epoch=9, values=metrics))

    late = sorted(float(values[CLS]) for values in list_trial_values(sweep)[10:])

    assert late[len(late) // 2] < 1.0


@each_algorithm
def test_an_extension_applies_to_later_trials(algorithm: Algorithm) -> None:
    sweep = run_search(make_sweep(algorithm=algorithm, budget=Budget(trials=4)), 4)
    space: dict[str, Parameter] = {CLS: make_log_uniform(8, 16), LOC: make_log_uniform(1, 2)}
    sweep.add(
        SweepExtended(by="me", budget=Budget(trials=8), space=space, algorithm=ALGORITHMS["random"])
    )

    values = suggest(sweep.active_spec, sweep.trials)

    assert not isinstance(values, Wait)
    assert values is not None
    assert float(values[CLS]) >= 8
    assert sweep.active_spec.budget.trials == 8
