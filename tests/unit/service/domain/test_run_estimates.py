"""Estimated length of a run: steps from the dataset, time from an earlier run with equal steps."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.records import Progress
from configs.spec.run import RunSpec
from service.domain.estimates import RunEstimate, estimate_run, find_reference
from service.domain.runs import MetricPoint, Run
from service.domain.states import RunState
from tests.support.factories import make_bckd_spec, make_run, make_spec

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make_finished_run(*, seconds: float = 60.0, **changes: Any) -> Run:
    """A run of two epochs with 25 steps each."""
    progress = Progress(
        at=START, attempt=1, phase="finishing", epoch=2, epochs=2, step=50, steps=50, eta_s=0.0
    )
    values = {
        "id": "rearlier",
        "state": RunState.SUCCEEDED,
        "attempt": 1,
        "started_at": START,
        "finished_at": START + timedelta(seconds=seconds),
        "progress": progress,
    }
    return make_run(**(values | changes))


def estimate(
    spec: dict[str, Any],
    *earlier: Run,
    pack_size: int = 1,
    points: Sequence[MetricPoint] = (),
) -> RunEstimate:
    parsed = parse_spec(spec)
    assert isinstance(parsed, RunSpec)
    reference = find_reference(parsed, earlier, pack_size=pack_size)
    return estimate_run(parsed, num_images=98, reference=reference, points=points)


def test_without_an_earlier_run_the_steps_are_known_and_the_time_is_not() -> None:
    result = estimate(make_spec())

    assert (result.epochs, result.steps_per_epoch, result.steps) == (2, 25, 50)
    assert (result.duration_s, result.reference_run_id) == (None, None)


def test_steps_count_only_the_images_that_are_used() -> None:
    spec = make_spec()

    result = estimate(make_spec(data=spec["data"] | {"train_images": 9}))

    assert result.steps_per_epoch == 3


def test_the_time_of_an_earlier_run_is_scaled_by_the_epochs() -> None:
    result = estimate(make_spec(schedule={"epochs": 6}, seed=7), make_finished_run(seconds=60))

    assert result.steps == 150
    assert result.duration_s == pytest.approx(180.0)
    assert result.reference_run_id == "rearlier"


def test_the_time_before_and_after_the_steps_is_not_scaled() -> None:
    seconds_by_step = {10: 30.0, 50: 50.0}
    points = [
        MetricPoint("train/loss", step, 1.0, START + timedelta(seconds=seconds))
        for step, seconds in seconds_by_step.items()
    ]

    result = estimate(make_spec(schedule={"epochs": 6}), make_finished_run(), points=points)

    assert result.duration_s == pytest.approx(60.0 - 50 * 0.5 + 150 * 0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": parse_spec(make_spec(compute={"channels_last": True}))},
        {"spec": parse_spec(make_bckd_spec())},
        {"attempt": 2},
        {"progress": None},
        {"started_at": None},
    ],
    ids=["other compute", "with a teacher", "interrupted", "without progress", "never started"],
)
def test_a_run_with_other_work_or_a_break_is_no_reference(changes: dict[str, Any]) -> None:
    assert estimate(make_spec(), make_finished_run(**changes)).duration_s is None


def test_weights_of_losses_and_seeds_make_no_difference() -> None:
    spec = parse_spec(make_bckd_spec(distillation={"method": "bckd", "loc_weight": 4.0}, seed=3))

    assert estimate(make_bckd_spec(), make_finished_run(spec=spec)).duration_s == 60.0


def test_the_newest_reference_with_the_same_pack_size_is_preferred() -> None:
    earlier = (
        make_finished_run(id="rnewest", pack_size=2),
        make_finished_run(id="ralone"),
        make_finished_run(id="roldest"),
    )

    assert estimate(make_spec(), *earlier).reference_run_id == "ralone"
    assert estimate(make_spec(), *earlier, pack_size=2).reference_run_id == "rnewest"
    assert estimate(make_spec(), earlier[0]).reference_run_id == "rnewest"
