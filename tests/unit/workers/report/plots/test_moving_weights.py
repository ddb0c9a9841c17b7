"""Curves of weights that are schedules or shares."""

import math
from pathlib import Path
from typing import Any

from configs.catalog import parse_spec
from configs.metric_keys import measured_share_metric, weight_metric
from configs.protocol.report import CurvePoint, ReportRun
from configs.spec.installed_methods import InstalledMethod
from tests.support.factories import make_bckd_spec
from tests.support.workers.report_inputs import EPOCHS, make_baseline_run, make_distilled_run
from workers.report.plots.moving_weights import plot_moving_weights, requested_shares

CLS, LOC = "distill_cls", "distill_loc"
SHARE, SCHEDULE = {"share": 0.3, "value": 1.0}, {"value": 4.0, "warmup_epochs": 2}


def make_weights(*, factor: float = 50.0, seed: int = 0) -> tuple[CurvePoint, ...]:
    """A weight that rises by `factor` until its share is reached, and one that is warmed up."""
    points = []
    for half_epoch in range(1, 2 * EPOCHS + 1):
        progress = 1 - math.exp(-half_epoch / 5)
        values = {
            weight_metric(CLS): factor**progress,
            weight_metric(LOC): 0.0 if half_epoch > 20 else min(half_epoch, 4.0),
            measured_share_metric(CLS): 0.02 + 0.28 * progress + seed * 0.01,
        }
        points.append(CurvePoint(step=50 * half_epoch, epoch=half_epoch / 2, values=values))
    return tuple(points)


def make_run(folder: Path, *, number: int = 1, **changes: Any) -> ReportRun:
    weights = {"method": "bckd", "cls_weight": SHARE, "loc_weight": SCHEDULE}
    spec = parse_spec(make_bckd_spec(schedule={"epochs": EPOCHS}, distillation=weights))
    return make_distilled_run(
        folder, number=number, **({"spec": spec, "weights": make_weights()} | changes)
    )


def test_a_run_without_moving_weights_has_no_picture(tmp_path: Path) -> None:
    assert plot_moving_weights([make_baseline_run(tmp_path)]) is None
    assert plot_moving_weights([make_distilled_run(tmp_path, number=1)]) is None


def test_weights_and_shares_are_side_by_side(tmp_path: Path) -> None:
    picture = plot_moving_weights([make_baseline_run(tmp_path), make_run(tmp_path)])

    assert picture is not None
    for text in ("Weights", CLS, LOC, "Shares of the gradient", "requested"):
        assert f">{text}<" in picture.svg
        assert f">{text}<" in picture.narrow_svg
    assert "A weight of 0" in picture.caption


def test_the_axis_of_weights_is_logarithmic_beyond_a_decade(tmp_path: Path) -> None:
    wide = plot_moving_weights([make_run(tmp_path)])
    narrow = plot_moving_weights([make_run(tmp_path, weights=make_weights(factor=2.0))])

    assert wide is not None
    assert narrow is not None
    assert ">20<" in wide.svg
    assert ">3<" not in wide.svg
    assert ">3<" in narrow.svg


def test_lines_are_means_over_seeds(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, number=seed + 1, weights=make_weights(seed=seed)) for seed in range(3)
    ]

    picture = plot_moving_weights(runs)

    assert picture is not None
    assert "means over 3 runs" in picture.caption


def test_requested_shares_are_those_of_the_spec() -> None:
    spec = parse_spec(
        make_bckd_spec(
            distillation={
                "method": "bckd",
                "cls_weight": SHARE,
                "extra": {"pkd": {"weight": SHARE}},
            }
        )
    )
    installed = InstalledMethod(name="mean_shift", fields={"weight": {"share": 0.2}, "sigma": 1})

    assert requested_shares(spec.distillation) == [(CLS, 0.3), ("pkd", 0.3)]
    assert requested_shares(installed) == [(None, 0.2)]
