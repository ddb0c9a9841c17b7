"""Weights of distillation terms at each step, with values derived by hand."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from configs.spec.active_methods import own_methods
from configs.spec.distillation import Distillation
from configs.spec.weights import WeightSchedule, WeightShare
from workers.distillation.weights import MovingWeights, full_weights, move_weight, scheduled_weight

EPOCHS, STEPS_PER_EPOCH = 4, 4
CLS, LOC = "distillation.cls_weight", "distillation.loc_weight"
SCHEDULES: dict[str, tuple[dict[str, Any], list[float]]] = {
    "linear warm-up": (
        {"value": 2.0, "warmup_epochs": 1},
        [0.5, 1.0, 1.5, *[2.0] * 13],
    ),
    "warm-up of half an epoch": (
        {"value": 2.0, "warmup_epochs": 0.5},
        [1.0, *[2.0] * 15],
    ),
    "warm-up of less than a step": (
        {"value": 2.0, "warmup_epochs": 0.1},
        [2.0] * 16,
    ),
    # (1 - cos(pi / 4)) / 2 = 0.1464466, (1 - cos(pi / 2)) / 2 = 0.5
    "cosine warm-up": (
        {"value": 2.0, "warmup_epochs": 1, "shape": "cosine"},
        [0.2928932, 1.0, 1.7071068, *[2.0] * 13],
    ),
    # falls by 1 / 8 of 2 - 1 at each of the 8 steps of the last two epochs
    "linear decay to the end of the training": (
        {"value": 2.0, "decay_from_epoch": 2, "decay_to": 1.0},
        [*[2.0] * 9, 1.875, 1.75, 1.625, 1.5, 1.375, 1.25, 1.125],
    ),
    "cosine decay until it stops": (
        {"value": 2.0, "decay_from_epoch": 2, "stop_epoch": 3, "shape": "cosine"},
        [*[2.0] * 9, 1.7071068, 1.0, 0.2928932, *[0.0] * 4],
    ),
    "stop": (
        {"value": 2.0, "stop_epoch": 1},
        [*[2.0] * 4, *[0.0] * 12],
    ),
    "everything": (
        {"value": 2.0, "warmup_epochs": 1, "decay_from_epoch": 1, "stop_epoch": 2},
        [0.5, 1.0, 1.5, 2.0, 2.0, 1.5, 1.0, 0.5, *[0.0] * 8],
    ),
}


def make_weights(**fields: Any) -> MovingWeights:
    distillation: Distillation = TypeAdapter(Distillation).validate_python(
        {"method": "bckd"} | fields
    )
    return MovingWeights(own_methods(distillation), epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH)


def make_norms(*, cls: float, loc: float, own: float) -> dict[str, float]:
    return {"loss_cls": own, "loss_distill_cls": cls, "loss_distill_loc": loc}


@pytest.mark.parametrize(("fields", "expected"), SCHEDULES.values(), ids=list(SCHEDULES))
def test_a_schedule_has_the_weights_of_its_curve(
    fields: dict[str, Any], expected: list[float]
) -> None:
    weights = make_weights(loc_weight=fields)

    actual = [weights.at(step)[LOC] for step in range(EPOCHS * STEPS_PER_EPOCH)]

    assert actual == pytest.approx(expected)


def test_a_decay_to_the_end_has_its_last_value_after_the_last_step() -> None:
    schedule = WeightSchedule(value=3.0, decay_from_epoch=1, decay_to=1.0, shape="cosine")

    weight = scheduled_weight(schedule, step=16, epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH)

    assert weight == 1.0


def test_plain_numbers_do_not_move() -> None:
    weights = make_weights(cls_weight=2.0)

    assert weights.at(0) == {}
    assert weights.due_shares(0) == []


def test_weights_of_additional_methods_move_too() -> None:
    weights = make_weights(extra={"pkd": {"weight": {"stop_epoch": 1}}})

    assert weights.at(3) == {"distillation.extra.pkd.weight": 6.0}
    assert weights.at(4) == {"distillation.extra.pkd.weight": 0.0}
    assert weights.terms == {"distillation.extra.pkd.weight": "pkd"}


def test_a_weight_that_would_have_the_share_is_reached_in_one_move_of_rate_1() -> None:
    # Norms 1 (weight 4) and 3: a share of 1 / 4. It needs norm 2 for 2 / 5, which is weight 8.
    share = WeightShare(share=0.4, value=4.0, rate=1.0)

    assert move_weight(4.0, 0.25, share) == pytest.approx(8.0)


def test_a_move_takes_the_rate_of_the_logarithm() -> None:
    share = WeightShare(share=0.4, value=4.0, rate=0.5)

    assert move_weight(4.0, 0.25, share) == pytest.approx(4.0 * 2.0**0.5)


def test_a_move_ends_at_a_bound() -> None:
    share = WeightShare(share=0.4, value=4.0, rate=1.0, min=3.0, max=6.0)

    assert move_weight(4.0, 0.25, share) == 6.0
    assert move_weight(4.0, 0.75, share) == 3.0


def test_a_share_far_away_moves_the_weight_by_a_factor_of_4_at_most() -> None:
    share = WeightShare(share=0.5, value=1.0, rate=1.0)

    assert move_weight(1.0, 1e-9, share) == pytest.approx(4.0)
    assert move_weight(1.0, 1.0 - 1e-9, share) == pytest.approx(0.25)


def test_bounds_are_a_hundredth_and_a_hundredfold_where_none_are_set() -> None:
    assert WeightShare(share=0.5, value=3.0).bounds == pytest.approx((0.03, 300.0))


def test_a_share_is_measured_over_all_terms_and_moves_at_its_interval() -> None:
    weights = make_weights(loc_weight={"share": 0.4, "value": 4.0, "rate": 1.0, "every_steps": 2})
    norms = make_norms(cls=1.0, loc=1.0, own=2.0)

    before = weights.move(norms, step=0)
    measured = weights.move(norms, step=1)

    assert before == {}
    assert measured == {LOC: 0.25}
    assert weights.at(2) == {LOC: pytest.approx(8.0)}


def test_two_shares_move_by_the_same_measurement() -> None:
    share = {"share": 0.3, "value": 1.0, "every_steps": 1}
    weights = make_weights(cls_weight=share, loc_weight=share)

    measured = weights.move(make_norms(cls=1.0, loc=6.0, own=3.0), step=0)

    assert measured == {CLS: 0.1, LOC: 0.6}
    assert weights.at(1)[CLS] > 1.0 > weights.at(1)[LOC]


@pytest.mark.parametrize("loc", [0.0, float("nan"), float("inf")])
def test_a_batch_without_a_share_moves_nothing(loc: float) -> None:
    weights = make_weights(loc_weight={"share": 0.4, "value": 4.0, "every_steps": 1})

    assert weights.move(make_norms(cls=1.0, loc=loc, own=2.0), step=0) == {}
    assert weights.at(1) == {LOC: 4.0}


def test_a_share_that_has_stopped_is_not_measured() -> None:
    weights = make_weights(loc_weight={"share": 0.4, "every_steps": 1, "stop_epoch": 2})

    assert weights.due_shares(7) == [LOC]
    assert weights.due_shares(8) == []
    assert weights.at(8) == {LOC: 0.0}


def test_a_share_that_is_never_measured_is_noticed() -> None:
    late = make_weights(loc_weight={"share": 0.4, "every_steps": 5, "stop_epoch": 1})
    on_time = make_weights(loc_weight={"share": 0.4, "every_steps": 4, "stop_epoch": 1})

    assert late.find_unmeasured_shares() == [LOC]
    assert on_time.find_unmeasured_shares() == []


def test_the_share_is_held_where_gradients_are_proportional_to_weights() -> None:
    # At weight 1 the gradient norms are 0.5 and 2, beside 1.5 of the detector's own losses.
    weights = make_weights(
        cls_weight={"share": 0.3, "value": 1.0, "every_steps": 1},
        loc_weight={"share": 0.2, "value": 4.0, "every_steps": 1},
    )

    for step in range(100):
        cls, loc = weights.at(step)[CLS], weights.at(step)[LOC]
        measured = weights.move(make_norms(cls=0.5 * cls, loc=2.0 * loc, own=1.5), step=step)

    assert measured == pytest.approx({CLS: 0.3, LOC: 0.2}, abs=1e-3)
    # All norms add up to 1.5 / (1 - 0.3 - 0.2) = 3, of which 0.9 and 0.6 are distillation.
    assert weights.values == pytest.approx({CLS: 1.8, LOC: 0.3}, rel=1e-2)


def test_full_weights_are_the_values() -> None:
    distillation: Distillation = TypeAdapter(Distillation).validate_python(
        {
            "method": "bckd",
            "cls_weight": {"share": 0.3, "value": 5.0},
            "loc_weight": {"stop_epoch": 1},
        }
    )

    assert full_weights(own_methods(distillation)) == {CLS: 5.0, LOC: 4.0}
