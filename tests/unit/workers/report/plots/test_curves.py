"""Learning curves: a point for each evaluation, means over seeds."""

from pathlib import Path

import pytest

from configs.protocol.report import ReportRun
from tests.support.workers.report_inputs import (
    EPOCHS,
    make_baseline_run,
    make_curve,
    make_distilled_run,
)
from workers.report.plots.curves import build_curves, build_mean_curves, plot_curves
from workers.report.plots.style import STUDENT

MARKER = f"fill: {STUDENT}; stroke: {STUDENT}"
"""Style of the markers of a distilled run."""


def make_pairs(folder: Path, *maps: tuple[float, float], epochs: int = EPOCHS) -> list[ReportRun]:
    """Make pairs of a baseline and a distilled run with these final mAPs and different seeds."""
    runs = []
    for seed, (baseline, distilled) in enumerate(maps):
        runs += [
            make_baseline_run(
                folder, number=2 * seed, seed=seed, curve=make_curve(baseline, epochs=epochs)
            ),
            make_distilled_run(
                folder, number=2 * seed + 1, seed=seed, curve=make_curve(distilled, epochs=epochs)
            ),
        ]
    return runs


def test_every_evaluation_is_a_point_with_a_marker(tmp_path: Path) -> None:
    two, five = (
        build_curves(make_pairs(tmp_path, (0.3, 0.4), epochs=epochs), best=None, tied=())
        for epochs in (2, 5)
    )

    markers = [plot_curves(curves, teacher_map=None).svg.count(MARKER) for curves in (two, five)]

    assert [curve.epochs for curve in two] == [(1.0, 2.0)] * 2
    assert markers == [2 + 1, 5 + 1]  # each curve has one more in the legend


def test_several_seeds_have_a_mean_of_each_role(tmp_path: Path) -> None:
    runs = make_pairs(tmp_path, (0.30, 0.40), (0.32, 0.44))

    means = build_mean_curves(build_curves(runs, best=None, tied=()))

    assert [(mean.role, mean.num_runs) for mean in means] == [("baseline", 2), ("distilled", 2)]
    assert [mean.values[-1] for mean in means] == pytest.approx([31.0, 42.0])
    assert means[0].epochs == tuple(range(1, EPOCHS + 1))


def test_one_seed_runs_of_a_sweep_and_unequal_lengths_have_no_mean(tmp_path: Path) -> None:
    one_seed = make_pairs(tmp_path, (0.3, 0.4))
    trials = [
        make_distilled_run(tmp_path, number=number, seed=number, trial=number) for number in (1, 2)
    ]
    unequal = [
        make_baseline_run(tmp_path, number=seed, seed=seed, curve=make_curve(0.3, epochs=3 + seed))
        for seed in (0, 1)
    ]

    for runs in (one_seed, trials, unequal):
        assert build_mean_curves(build_curves(runs, best=None, tied=())) == []


def test_a_teacher_far_above_the_students_does_not_flatten_their_curves(tmp_path: Path) -> None:
    curves = build_curves(make_pairs(tmp_path, (0.20, 0.25)), best=None, tied=())

    near, far = (plot_curves(curves, teacher_map=value).svg for value in (0.26, 0.674))

    assert "teacher: 67.4, above this range" in far
    assert "above this range" not in near
    assert ">60<" not in far
