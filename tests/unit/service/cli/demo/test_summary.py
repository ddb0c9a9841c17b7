"""Summary of a demo: scores, gains and the closed gap."""

import pytest
from rich.console import Console

from configs.catalog import spec_from_preset
from configs.metric_keys import Metric
from service.cli.demo.commands import parse_seeds
from service.cli.demo.summary import (
    DetectorScores,
    ScorePoint,
    StudentPair,
    build_summary_table,
    compute_gap_closed,
    format_scope,
    read_teacher_scores,
    select_best_scores,
)
from service.cli.errors import CliError
from tests.support.service.run_views import make_run_view

TEACHER = DetectorScores(0.85, 0.95, 0.9)


def _make_pair(baseline: float | None, distilled: float | None, *, seed: int = 0) -> StudentPair:
    return StudentPair(
        seed,
        DetectorScores(baseline, 0.8, 0.7),
        DetectorScores(distilled, 0.82, 0.73),
        baseline_s=60,
        distilled_s=125,
    )


def _render_text(*pairs: StudentPair, width: int = 200) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(build_summary_table(TEACHER, None, pairs))
    return capture.get()


def test_the_three_scores_are_of_the_same_evaluation() -> None:
    points = [
        ScorePoint(Metric.MAP, 10, 0.5),
        ScorePoint(Metric.MAP_50, 10, 0.7),
        ScorePoint(Metric.MAP_75, 10, 0.55),
        ScorePoint(Metric.MAP, 20, 0.4),
        ScorePoint(Metric.MAP_50, 20, 0.9),
        ScorePoint(Metric.LOSS, 20, 1.0),
    ]

    assert select_best_scores(points) == DetectorScores(0.5, 0.7, 0.55)
    assert select_best_scores(points[5:]) == DetectorScores(None, None, None)


def test_teacher_scores_come_from_the_distilled_run() -> None:
    assert read_teacher_scores({Metric.TEACHER_MAP: 0.8}) == DetectorScores(0.8, None, None)


@pytest.mark.parametrize(
    ("baseline", "distilled", "expected"),
    [(0.65, 0.70, 0.25), (0.65, 0.60, -0.25), (0.90, 0.95, None), (None, 0.7, None)],
)
def test_the_gap_closed(
    baseline: float | None, distilled: float | None, expected: float | None
) -> None:
    share = compute_gap_closed(TEACHER, _make_pair(baseline, distilled))

    assert share == (None if expected is None else pytest.approx(expected))


def test_one_seed_is_three_lines() -> None:
    text = _render_text(_make_pair(0.65, 0.70))

    assert "+5.0" in text
    assert "25 %" in text
    assert "2 min 05 s" in text
    assert "seed" not in text


def test_several_seeds_are_named_and_averaged() -> None:
    text = _render_text(_make_pair(0.65, 0.70, seed=0), _make_pair(0.65, 0.64, seed=1))

    assert "with BCKD, seed 1" in text
    assert "-1.0" in text
    assert "mean gain of 2 seeds" in text
    assert "+2.0" in text


def test_several_seeds_fit_a_terminal_of_80_characters() -> None:
    pairs = [_make_pair(0.65, 0.70, seed=seed) for seed in (0, 1)]

    assert _render_text(*pairs, width=80).split() == _render_text(*pairs, width=200).split()


def test_the_scope_of_a_verdict_names_student_and_training() -> None:
    text = format_scope(make_run_view(spec=spec_from_preset("digits/bckd", {"schedule.epochs": 5})))

    assert "EfficientNet-Lite0 trained for 5 epochs" in text


def test_seeds_are_numbers_without_duplicates() -> None:
    assert parse_seeds("0,1, 2,1") == (0, 1, 2)
    with pytest.raises(CliError):
        parse_seeds("0,x")
