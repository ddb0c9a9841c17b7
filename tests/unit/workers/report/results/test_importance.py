"""Importance of the parameters."""

from pathlib import Path

import pytest

from configs.spec.search import Choice, Parameter
from configs.spec.sweep import Objective
from tests.support.workers.report_inputs import CLS, LOC, make_sweep_inputs
from workers.report.results.importance import compute_importance
from workers.report.results.trials import ReportTrial, build_report_trials, rank_finished

NORM = "student.backbone.norm_eval"


def load_trials(tmp_path: Path, *, count: int = 40) -> list[ReportTrial]:
    return rank_finished(
        build_report_trials(make_sweep_inputs(tmp_path, trials=count)), Objective()
    )


def load_space(tmp_path: Path) -> dict[str, Parameter]:
    sweep = make_sweep_inputs(tmp_path).sweep
    assert sweep is not None
    return dict(sweep.space)


def test_shares_add_up_and_name_the_parameter_that_moves_the_objective(tmp_path: Path) -> None:
    shares = compute_importance(
        load_trials(tmp_path), space=load_space(tmp_path), objective=Objective()
    )

    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=lambda path: shares[path]) == "schedule.optimizer.lr"


def test_fewer_than_four_trials_have_no_importance(tmp_path: Path) -> None:
    trials = load_trials(tmp_path)[:3]

    assert compute_importance(trials, space=load_space(tmp_path), objective=Objective()) == {}


def test_a_constant_objective_has_no_importance(tmp_path: Path) -> None:
    same = [
        ReportTrial(t.number, t.values, (), "finished", 12, {"val/bbox_mAP": 0.3})
        for t in load_trials(tmp_path)
    ]

    assert compute_importance(same, space=load_space(tmp_path), objective=Objective()) == {}


def test_a_parameter_without_spread_and_one_that_some_trials_lack_are_left_out(
    tmp_path: Path,
) -> None:
    space = load_space(tmp_path) | {NORM: Choice(values=(True, False), when={})}
    trials = []
    for trial in load_trials(tmp_path):
        values = trial.values | {CLS: 1.0}
        values |= {NORM: True} if trial.number % 2 else {}
        trials.append(ReportTrial(trial.number, values, (), "finished", 12, trial.best_values))

    shares = compute_importance(trials, space=space, objective=Objective())

    assert set(shares) == {LOC, "schedule.optimizer.lr"}


def test_a_choice_and_a_value_outside_of_the_range_are_parameters_too(tmp_path: Path) -> None:
    space = load_space(tmp_path) | {NORM: Choice(values=(True, False), when={})}
    trials = [
        ReportTrial(
            t.number,
            t.values | {NORM: bool(t.number % 2), CLS: 0.0 if t.number == 0 else 50.0 + t.number},
            (),
            "finished",
            12,
            t.best_values,
        )
        for t in load_trials(tmp_path)
    ]

    assert set(compute_importance(trials, space=space, objective=Objective())) == set(space)
