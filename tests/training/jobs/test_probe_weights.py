"""The probe of runs whose weights move."""

from pathlib import Path
from typing import Any

import pytest

from configs.catalog import apply_changes, parse_spec
from configs.spec.run import RunSpec
from tests.support.training.probes import (
    UNMEASURED,
    make_analyzer,
    make_distilled_spec,
    make_probe_spec,
    uniform,
)
from workers.probe.builder import StudentFactory
from workers.probe.weights import describe_start_weight, measure_start_weights, simulate_weights

LOC = "distillation.loc_weight"
SHARE = {"share": 0.3, "value": 2.0, "every_steps": 1}
EFFECTS: dict[str, tuple[dict[str, Any], str, dict[str, Any], str]] = {
    "a decay": (
        {LOC: {"decay_from_epoch": 2}},
        f"{LOC}.decay_to",
        uniform(0.0, 1.0),
        "the weight of a later step",
    ),
    "a share": ({LOC: SHARE}, f"{LOC}.share", uniform(0.1, 0.4), "the weight of a later step"),
    "a bound that is not reached": ({LOC: SHARE}, f"{LOC}.max", uniform(900.0, 950.0), "unknown: "),
}
"""Changes to the base, a parameter of a sweep with its range, and the beginning of its effect."""


def make_base(digits: Path, **changes: Any) -> dict[str, Any]:
    return apply_changes(make_distilled_spec(digits), changes)


@pytest.mark.parametrize(
    ("changes", "path", "parameter", "detail"), EFFECTS.values(), ids=list(EFFECTS)
)
def test_fields_of_weights_that_move_have_an_effect(
    factory: StudentFactory,
    digits: Path,
    changes: dict[str, Any],
    path: str,
    parameter: dict[str, Any],
    detail: str,
) -> None:
    spec = make_probe_spec(make_base(digits, **changes), {path: parameter})

    effect = make_analyzer(factory, spec, UNMEASURED).analyze(spec.space, path)

    assert effect.has_effect
    assert effect.detail.startswith(detail)


def test_a_schedule_starts_with_the_weight_of_its_first_step(
    factory: StudentFactory, digits: Path
) -> None:
    spec = parse_spec(make_base(digits, **{LOC: {"value": 2.0, "warmup_epochs": 2}}))

    starts = measure_start_weights(factory, spec)

    steps = 2 * factory.steps_per_epoch(spec)
    assert starts[LOC].weight == pytest.approx(2.0 / steps)
    assert describe_start_weight(LOC, starts[LOC]) == f"{LOC} starts at {2.0 / steps:.3g}."


def test_the_balanced_weight_has_the_share(factory: StudentFactory, digits: Path) -> None:
    share = SHARE | {"rate": 1.0}
    spec = parse_spec(make_base(digits, **{LOC: share, "schedule.epochs": 4}))

    start = measure_start_weights(factory, spec)[LOC]
    weights = simulate_weights(factory, spec)

    assert len(weights) == 4 * factory.steps_per_epoch(spec)
    assert weights[0] == {LOC: start.weight} == {LOC: 2.0}
    # Whichever factor of 4 or less at each of the steps leads there.
    assert weights[-1][LOC] == pytest.approx(start.balanced_weight, rel=1e-4)


def test_plain_weights_are_not_measured(factory: StudentFactory, base: RunSpec) -> None:
    assert measure_start_weights(factory, base) == {}
