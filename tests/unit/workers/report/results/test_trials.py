"""Ranking of trials, and ties within the noise floor."""

from pathlib import Path

import pytest

from configs.metric_keys import Metric
from configs.protocol.comparison import NoiseFloor
from configs.protocol.report import ReportInputs
from configs.protocol.sweep_log import TrialEnded, TrialSuggested
from configs.spec.sweep import Objective
from tests.support.workers.report_inputs import (
    CLS,
    NOISE,
    make_baseline_run,
    make_distilled_run,
    make_run_inputs,
    make_sweep_inputs,
)
from workers.report.results.trials import (
    ReportTrial,
    build_report_trials,
    epochs_saved,
    find_ties,
    rank_finished,
)


def make_trial(number: int, value: float, *, seeds: int = 1, folder: Path = Path()) -> ReportTrial:
    runs = tuple(
        make_distilled_run(folder, number=100 * number + seed, trial=number, seed=seed)
        for seed in range(seeds)
    )
    return ReportTrial(number, {CLS: 1.0}, runs, "finished", 12, {Metric.MAP: value})


def list_ties(*trials: ReportTrial, noise: NoiseFloor | None = NOISE) -> tuple[int, ...]:
    objective = Objective()
    ranked = rank_finished(trials, objective)
    return find_ties(ranked[0], ranked, objective=objective, noise=noise)


def test_a_trial_within_the_floor_of_the_best_is_tied_with_it_and_one_beyond_is_not() -> None:
    tied = list_ties(
        make_trial(0, 0.370), make_trial(1, 0.370 - 0.0113), make_trial(2, 0.370 - 0.0115)
    )

    assert tied == (1,)


@pytest.mark.parametrize(("seeds", "is_tied"), [(1, True), (4, False)])
def test_over_n_seeds_the_floor_is_sqrt_n_lower(seeds: int, is_tied: bool) -> None:
    tied = list_ties(make_trial(0, 0.370, seeds=seeds), make_trial(1, 0.363, seeds=seeds))

    assert (tied == (1,)) is is_tied


def test_without_a_floor_nothing_is_called_tied() -> None:
    assert list_ties(make_trial(0, 0.37), make_trial(1, 0.37), noise=None) == ()


def test_the_floor_is_one_of_map_and_of_no_other_metric() -> None:
    objective = Objective(metric=Metric.LATENCY_P50_MS, goal="min")
    slow = ReportTrial(0, {}, (), "finished", 12, {Metric.LATENCY_P50_MS: 5.0})
    fast = ReportTrial(1, {}, (), "finished", 12, {Metric.LATENCY_P50_MS: 4.999})

    ranked = rank_finished([slow, fast], objective)

    assert [trial.number for trial in ranked] == [1, 0]
    assert find_ties(ranked[0], ranked, objective=objective, noise=NOISE) == ()


def test_trials_that_did_not_train_to_their_end_are_not_ranked(tmp_path: Path) -> None:
    trials = build_report_trials(make_sweep_inputs(tmp_path))

    ranked = rank_finished(trials, Objective())

    assert len(trials) == 12
    assert {trial.number for trial in ranked} == {0, 1, 2, 4, 5, 6, 8, 9, 10}


def test_what_a_stopped_trial_saved_counts_for_each_of_its_runs() -> None:
    trial = make_trial(0, 0.3, seeds=3)
    stopped = ReportTrial(0, {}, trial.runs, "stopped", 4, {})

    assert epochs_saved(stopped) == 3 * 8
    assert epochs_saved(trial) == 0


def test_a_trial_that_the_list_does_not_end_is_known_by_its_runs(tmp_path: Path) -> None:
    seeds = (
        make_distilled_run(tmp_path, number=1, trial=0, best_map=0.36),
        make_distilled_run(tmp_path, number=2, trial=0, best_map=0.38, seed=1),
        make_distilled_run(tmp_path, number=3, trial=1, best_map=None, result="failed", curve=()),
    )
    inputs = make_run_inputs(tmp_path, runs=(make_baseline_run(tmp_path), *seeds))

    complete, failed = build_report_trials(inputs)

    assert (complete.result, complete.seeds) == ("finished", 2)
    assert complete.map == pytest.approx(0.37)
    assert (failed.result, failed.map) == ("failed", None)


def test_a_trial_that_has_just_begun_has_no_runs_and_no_number(tmp_path: Path) -> None:
    entries = (TrialSuggested(number=0, values={CLS: 1.0}),)

    (trial,) = build_report_trials(make_run_inputs(tmp_path, runs=(), entries=entries))

    assert (trial.result, trial.map, trial.epoch, trial.seeds) == (None, None, 0, 1)


def test_the_list_decides_over_what_runs_say(tmp_path: Path) -> None:
    entries = (
        TrialSuggested(number=0, values={CLS: 1.0}),
        TrialEnded(number=0, result="stopped", epoch=3, values={Metric.MAP.value: 0.2}),
    )
    inputs: ReportInputs = make_run_inputs(
        tmp_path, runs=(make_distilled_run(tmp_path, number=1, trial=0),), entries=entries
    )

    (trial,) = build_report_trials(inputs)

    assert (trial.result, trial.map, trial.epoch) == ("stopped", 0.2, 3)
