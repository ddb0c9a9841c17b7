"""Loss curves: the detector's own losses and the distillation terms."""

from pathlib import Path

import pytest

from configs.metric_keys import Metric
from configs.protocol.report import CurvePoint
from tests.support.workers.report_inputs import make_baseline_run, make_distilled_run
from workers.report.plots.losses import detector_loss, plot_losses
from workers.report.plots.metric_curves import mean_curve


def make_point(epoch: float, **values: float) -> CurvePoint:
    return CurvePoint(
        step=int(100 * epoch),
        epoch=epoch,
        values={f"{Metric.LOSS}_{name}": value for name, value in values.items()},
    )


def test_distillation_terms_do_not_count_as_losses_of_the_detector() -> None:
    point = make_point(1, cls=0.5, bbox=0.25, dfl=0.125, distill_cls=4.0, pkd=8.0)

    assert detector_loss(point) == 0.875
    assert detector_loss(make_point(1, distill_cls=4.0)) is None


def test_a_mean_is_over_the_runs_that_were_measured_at_the_same_steps() -> None:
    curves = (
        (make_point(1, cls=2.0), make_point(2, cls=1.0)),
        (make_point(1, cls=4.0), make_point(2, cls=3.0)),
        (make_point(1, cls=9.0), make_point(1.5, cls=9.0)),
    )

    curve = mean_curve(curves, detector_loss)

    assert curve is not None
    assert curve.epochs == (1.0, 2.0)
    assert curve.values == pytest.approx((3.0, 2.0))


def test_a_pair_has_a_picture_of_both_kinds_of_losses_and_a_baseline_of_one(tmp_path: Path) -> None:
    baseline, distilled = make_baseline_run(tmp_path), make_distilled_run(tmp_path, number=1)

    both, single = plot_losses([baseline, distilled]), plot_losses([baseline])

    assert both is not None
    assert single is not None
    assert "Distillation terms" in both.svg
    assert "distill_cls" in both.narrow_svg
    assert "Distillation terms" not in single.svg
    assert plot_losses([make_baseline_run(tmp_path, losses=())]) is None
