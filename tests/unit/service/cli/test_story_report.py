"""What a demo found, in numbers that a person may quote."""

import pytest
from rich.console import Console

from configs.catalog import spec_from_preset
from configs.protocol.names import Metric
from service.cli.demo.commands import seeds_from
from service.cli.demo.summary import (
    Pair,
    Point,
    Scores,
    best_scores,
    comparison_url,
    gap_closed,
    report_table,
    scope_text,
    teacher_scores,
)
from service.cli.errors import Refused
from tests.unit.service.cli.cast import a_view

TEACHER = Scores(0.85, 0.95, 0.9)


def _pair(alone: float | None, taught: float | None, *, seed: int = 0) -> Pair:
    return Pair(seed, Scores(alone, 0.8, 0.7), Scores(taught, 0.82, 0.73), alone_s=60, taught_s=125)


def _text(*pairs: Pair, width: int = 200) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(report_table(TEACHER, None, pairs))
    return capture.get()


def test_the_three_scores_are_of_the_same_evaluation() -> None:
    points = [
        Point(Metric.MAP, 10, 0.5),
        Point(Metric.MAP_50, 10, 0.7),
        Point(Metric.MAP_75, 10, 0.55),
        Point(Metric.MAP, 20, 0.4),
        Point(Metric.MAP_50, 20, 0.9),
        Point(Metric.LOSS, 20, 1.0),
    ]

    assert best_scores(points) == Scores(0.5, 0.7, 0.55)
    assert best_scores(points[5:]) == Scores(None, None, None)


def test_teacher_scores_come_from_the_run_it_teaches() -> None:
    assert teacher_scores({Metric.TEACHER_MAP: 0.8}) == Scores(0.8, None, None)


@pytest.mark.parametrize(
    ("alone", "taught", "closed"),
    [(0.65, 0.70, 0.25), (0.65, 0.60, -0.25), (0.90, 0.95, None), (None, 0.7, None)],
)
def test_the_gap_closed(alone: float | None, taught: float | None, closed: float | None) -> None:
    share = gap_closed(TEACHER, _pair(alone, taught))

    assert share == (None if closed is None else pytest.approx(closed))


def test_one_seed_is_three_lines() -> None:
    shown = _text(_pair(0.65, 0.70))

    assert "+5.0" in shown
    assert "25 %" in shown
    assert "2 min 05 s" in shown
    assert "seed" not in shown


def test_several_seeds_are_named_and_averaged() -> None:
    shown = _text(_pair(0.65, 0.70, seed=0), _pair(0.65, 0.64, seed=1))

    assert "student with BCKD, seed 1" in shown
    assert "-1.0" in shown
    assert "mean gain of 2 seeds" in shown
    assert "+2.0" in shown


def test_several_seeds_fit_a_terminal_of_80_characters() -> None:
    pairs = [_pair(0.65, 0.70, seed=seed) for seed in (0, 1)]

    assert _text(*pairs, width=80).split() == _text(*pairs, width=200).split()


def test_a_verdict_is_said_of_its_student_and_its_training() -> None:
    text = scope_text(a_view(spec=spec_from_preset("digits/bckd", {"schedule.epochs": 5})))

    assert "EfficientNet-Lite0 trained for 5 epochs" in text


def test_the_comparison_names_runs_and_experiment() -> None:
    url = comparison_url("http://h:1/", run_ids=["a", "b"], experiments=["7", "7"])

    assert url == (
        "http://h:1/#/compare-runs?runs=%5B%22a%22%2C%22b%22%5D&experiments=%5B%227%22%5D"
    )


def test_seeds_are_numbers_without_doubles() -> None:
    assert seeds_from("0,1, 2,1") == (0, 1, 2)
    with pytest.raises(Refused):
        seeds_from("0,x")
