"""Weights that move: what they accept, what they refuse and how they are written."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.catalog import SpecError, apply_changes, parse_spec
from configs.derived_specs import baseline_spec, spec_digest, trial_spec
from configs.spec.active_methods import (
    has_weight,
    moving_weights,
    own_methods,
    set_weights,
    terms_by_weight,
)
from configs.spec.distillation import NoDistillation
from configs.spec.run import RunSpec
from configs.spec.sweep import SweepSpec
from configs.spec.weights import WeightSchedule, WeightShare
from tests.support.factories import NO_HASH, make_bckd_spec

LOC = "distillation.loc_weight"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a constant": (
        {LOC: {"value": 2.0}},
        "without warmup_epochs, decay_from_epoch or stop_epoch the weight is constant; write 2",
    ),
    "a shape without a curve": (
        {LOC: {"stop_epoch": 1, "shape": "cosine"}},
        "shape has no effect without warmup_epochs or decay_from_epoch",
    ),
    "the end of no decay": (
        {LOC: {"stop_epoch": 1, "decay_to": 1.0}},
        "decay_to has no effect without decay_from_epoch",
    ),
    "a decay upward": (
        {LOC: {"value": 2.0, "decay_from_epoch": 1, "decay_to": 3.0}},
        "decay_to 3 must be below value 2",
    ),
    "a decay after the stop": (
        {LOC: {"decay_from_epoch": 1, "stop_epoch": 1}},
        "decay_from_epoch 1 must be before stop_epoch 1",
    ),
    "a decay during the warm-up": (
        {LOC: {"warmup_epochs": 1.5, "decay_from_epoch": 1}},
        "warmup_epochs 1.5 must be before decay_from_epoch 1",
    ),
    "a stop after the training": (
        {LOC: {"stop_epoch": 2}},
        f"{LOC}: stop_epoch is 2, but schedule.epochs is 2; give an earlier epoch",
    ),
    "a decay after the training": (
        {"distillation.extra.pkd.weight.decay_from_epoch": 2},
        "distillation.extra.pkd.weight: decay_from_epoch is 2, but schedule.epochs is 2",
    ),
    "a warm-up longer than the training": (
        {LOC: {"warmup_epochs": 2.5}},
        f"{LOC}: warmup_epochs is 2.5, but schedule.epochs is 2; give an earlier epoch",
    ),
    "a share after the training": (
        {LOC: {"share": 0.3, "stop_epoch": 3}},
        f"{LOC}: stop_epoch is 3, but schedule.epochs is 2",
    ),
    "a share and a schedule": (
        {LOC: {"share": 0.3, "warmup_epochs": 1}},
        f"{LOC}.warmup_epochs: cannot be given together with share",
    ),
    "bounds without a share": (
        {LOC: {"value": 1.0, "min": 0.5}},
        f"{LOC}.min: has no effect without share",
    ),
    "a share of 1": ({LOC: {"share": 1.0}}, f"{LOC}.share: needs less than 1.0, got 1.0"),
    "bounds in the wrong order": (
        {LOC: {"share": 0.3, "min": 5.0, "max": 4.0}},
        "min 5 must be below max 4",
    ),
    "a value below the bounds": (
        {LOC: {"share": 0.3, "value": 1.0, "min": 2.0}},
        "value 1 must be from min 2 to max 100",
    ),
    "shares of everything": (
        {LOC: {"share": 0.5}, "distillation.cls_weight": {"share": 0.6}},
        "the shares add up to 1.1, which leaves nothing for the labels; lower them",
    ),
    "a value of 0": (
        {LOC: {"share": 0.3, "value": 0.0}},
        f"{LOC}.value: needs more than 0.0, got 0.0",
    ),
    "a weight that is 0 by default": (
        {"distillation": {"method": "ld", "vlr_weight": {"share": 0.3}}},
        "distillation.vlr_weight.value: this field is required",
    ),
    "a misspelled field": (
        {f"{LOC}.shrae": 0.3},
        "loc_weight is a plain value and has no fields",
    ),
    "a negative number": ({LOC: -1.0}, f"{LOC}: needs at least 0.0, got -1.0"),
    "a field of a number that is no weight": (
        {
            "distillation": {"method": "cwd", "temperature": 2.0},
            "distillation.temperature.share": 1,
        },
        "distillation.temperature: needs a number",
    ),
}


def make_changed_spec(changes: dict[str, Any]) -> RunSpec:
    document = make_bckd_spec(distillation={"method": "bckd", "loc_weight": 2.0})
    return parse_spec(apply_changes(document, changes))


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=list(REFUSED))
def test_a_setting_without_effect_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        make_changed_spec(changes)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    "weight",
    [
        {"value": 3.0, "warmup_epochs": 2},
        {"value": 3.0, "warmup_epochs": 1, "decay_from_epoch": 1, "decay_to": 1.0},
        {"value": 3.0, "stop_epoch": 1},
        {"value": 3.0, "share": 0.3, "min": 1.0, "max": 4.0, "stop_epoch": 1},
    ],
)
def test_a_weight_that_moves_is_read_as_it_was_written(weight: dict[str, Any]) -> None:
    spec = make_changed_spec({LOC: weight})

    copy = RunSpec.model_validate_json(spec.model_dump_json())

    assert copy == spec
    moving = moving_weights(own_methods(copy.distillation))[LOC]
    assert moving.model_dump().items() >= weight.items()


def test_a_field_of_a_weight_makes_a_plain_number_the_value() -> None:
    spec = make_changed_spec({f"{LOC}.share": 0.3, f"{LOC}.rate": 0.5})

    assert moving_weights(own_methods(spec.distillation)) == {
        LOC: WeightShare(share=0.3, value=2.0, rate=0.5)
    }


def test_a_weight_without_a_value_has_the_default_of_its_method() -> None:
    spec = make_changed_spec(
        {
            "distillation.extra.pkd.weight.warmup_epochs": 1,
            "distillation.cls_weight": {"share": 0.2},
        }
    )

    assert moving_weights(own_methods(spec.distillation)) == {
        "distillation.extra.pkd.weight": WeightSchedule(value=6.0, warmup_epochs=1),
        "distillation.cls_weight": WeightShare(share=0.2, value=1.0),
    }


def test_a_weight_that_was_0_has_the_default_of_its_method() -> None:
    document = make_bckd_spec(distillation={"method": "bckd", "loc_weight": 0.0})

    spec = parse_spec(apply_changes(document, {f"{LOC}.share": 0.2}))

    assert moving_weights(own_methods(spec.distillation)) == {
        LOC: WeightShare(share=0.2, value=4.0)
    }


def test_plain_weights_are_written_as_numbers() -> None:
    spec = parse_spec(make_bckd_spec(distillation={"method": "bckd", "loc_weight": 2}))

    assert spec.model_dump(mode="json")["distillation"]["loc_weight"] == 2.0
    assert moving_weights(own_methods(spec.distillation)) == {}


def test_a_schedule_changes_the_digest_and_not_the_baseline() -> None:
    plain, moving = make_changed_spec({}), make_changed_spec({f"{LOC}.warmup_epochs": 1})

    assert spec_digest(plain, dataset_digest=NO_HASH) != spec_digest(moving, dataset_digest=NO_HASH)
    assert baseline_spec(plain) == baseline_spec(moving)


def test_weights_are_set_by_their_fields() -> None:
    spec = make_changed_spec({f"{LOC}.share": 0.3, "distillation.extra.pkd.weight.stop_epoch": 1})
    terms = terms_by_weight(own_methods(spec.distillation))

    numbers = set_weights(
        spec.distillation, {LOC: 0.0, "distillation.extra.pkd.weight": 5.0, "other": 1.0}
    )

    assert moving_weights(own_methods(numbers)) == {}
    bckd, pkd = own_methods(numbers).values()
    assert bckd.model_dump(include=set(bckd.traits.terms)) == {"cls_weight": 1.0, "loc_weight": 0.0}
    assert pkd.model_dump(include=set(pkd.traits.terms)) == {"weight": 5.0}
    assert terms == {
        "distillation.cls_weight": "distill_cls",
        LOC: "distill_loc",
        "distillation.extra.pkd.weight": "pkd",
    }


def test_a_method_whose_weights_are_all_0_at_a_step_has_none() -> None:
    spec = make_changed_spec({LOC: {"stop_epoch": 1}, "distillation.cls_weight": 0.0})
    (method,) = own_methods(spec.distillation).values()
    (stopped,) = own_methods(set_weights(spec.distillation, {LOC: 0.0})).values()

    assert has_weight(method)
    assert not has_weight(stopped)


def test_a_baseline_has_no_weights() -> None:
    baseline = NoDistillation()

    assert set_weights(baseline, {LOC: 1.0}) == baseline
    assert terms_by_weight(own_methods(baseline)) == {}
    assert moving_weights(own_methods(baseline)) == {}


SPACES: dict[str, tuple[tuple[str, ...], str]] = {
    "a weight and its share": (
        (LOC, f"{LOC}.share"),
        f"space: {LOC}.share is a field of {LOC}; sweep one or the other",
    ),
    "a ratio and a share": (
        ("ratio", f"{LOC}.share"),
        f"space: ratio sets {LOC}.share; sweep one or the other",
    ),
}


@pytest.mark.parametrize(("paths", "message"), SPACES.values(), ids=list(SPACES))
def test_a_sweep_of_a_weight_in_two_ways_is_refused(paths: tuple[str, ...], message: str) -> None:
    space = {path: {"kind": "uniform", "low": 0.1, "high": 0.4} for path in paths}

    with pytest.raises(ValidationError, match=message):
        SweepSpec.model_validate({"base": make_changed_spec({}), "space": space})


@pytest.mark.parametrize("field", ["share", "warmup_epochs", "decay_from_epoch"])
def test_trials_have_the_fields_of_weights_that_a_sweep_varies(field: str) -> None:
    value = 1 if field == "decay_from_epoch" else 0.5
    base = make_changed_spec({})

    trial = trial_spec(base, {f"{LOC}.{field}": value, f"{LOC}.value": 3.0}, seed=4)

    weight = moving_weights(own_methods(trial.distillation))[LOC]
    assert (getattr(weight, field), weight.value) == (value, 3.0)
