"""Estimated duration of a sweep: packs share the teacher, slots share the trials."""

import pytest

from configs.catalog import parse_spec
from configs.protocol.probe import Costs
from configs.spec.sweep import SweepSpec
from service.domain.estimates import Prices, estimate
from tests.support.factories import make_bckd_spec

COSTS = Costs(
    load_s=0.0,
    teacher_s=3.0,
    student_s=1.0,
    evaluation_s=0.0,
    steps_per_epoch=450,
    base_bytes=0,
    member_bytes=0,
    available_bytes=0,
    device="cpu",
)
"""A separate run of two epochs takes an hour; in a pack, each further student a quarter more."""


def make_sweep(*, num_gpus: int = 0) -> SweepSpec:
    base = parse_spec(make_bckd_spec(resources={"num_gpus": num_gpus}))
    space = {"distillation.cls_weight": {"kind": "uniform", "low": 0.0, "high": 1.0}}
    return SweepSpec.model_validate({"base": base, "space": space, "budget": {"trials": 8}})


@pytest.mark.parametrize(
    ("pack_size", "slots", "hours", "saved"),
    [
        pytest.param(1, 1, 8.0, 0.0, id="one by one"),
        pytest.param(4, 1, 3.5, 0.5625, id="two packs, one after the other"),
        pytest.param(4, 2, 1.75, 0.5625, id="two packs at once"),
        pytest.param(8, 2, 2.75, 0.65625, id="one pack, which fills one place"),
    ],
)
def test_a_pack_costs_one_teacher_and_all_its_students(
    pack_size: int, slots: int, hours: float, saved: float
) -> None:
    result = estimate(make_sweep(), COSTS, pack_size=pack_size, slots=slots, prices=Prices())

    assert result.hours == pytest.approx(hours)
    assert result.saved == pytest.approx(saved)
    assert result.price is None


def test_a_price_is_of_gpus_where_there_are_some_and_else_of_cores() -> None:
    prices = Prices(gpu_hour=2.0, cpu_hour=0.1)

    on_gpus = estimate(make_sweep(num_gpus=1), COSTS, pack_size=4, slots=1, prices=prices)
    on_cores = estimate(make_sweep(), COSTS, pack_size=4, slots=1, prices=prices)

    assert (on_gpus.gpu_hours, on_gpus.price) == pytest.approx((3.5, 7.0))
    assert on_cores.price == pytest.approx(0.35)
