"""The values of a space that a probe compares."""

from typing import Any

import pytest

from configs.catalog import spec_from_preset
from configs.protocol.probe import Probe
from configs.spec.jobs import ProbeSpec
from configs.spec.run import RunSpec
from configs.spec.search import Scalar
from configs.spec.sweep import Space
from workers.probe.candidates import build_candidate_specs, candidate_values, values_with_parents

DEPTH = "student.backbone.depth"
KIND = "student.backbone.kind"

PROBE = Probe.model_validate(
    {
        "effects": {},
        "costs": {
            "load_s": 0,
            "teacher_s": 0,
            "student_s": 0,
            "evaluation_s": 0,
            "steps_per_epoch": 1,
            "base_bytes": 0,
            "member_bytes": 0,
            "available_bytes": 0,
            "device": "cpu",
        },
        "detection_loss": 2.0,
        "unit_losses": {"distillation.cls_weight": 4.0, "distillation.loc_weight": 0.5},
    }
)


@pytest.fixture
def base() -> RunSpec:
    return spec_from_preset("digits/bckd", {"schedule.epochs": 6})


def make_space(base: RunSpec, space: dict[str, Any]) -> Space:
    return ProbeSpec.model_validate({"base": base, "space": space}).space


def make_choice(*values: Scalar, **when: Any) -> dict[str, Any]:
    return {"kind": "choice", "values": list(values), **when}


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ({"kind": "uniform", "low": 0, "high": 1}, (0, 1, 0.5)),
        ({"kind": "loguniform", "low": 1, "high": 100}, (1, 100, 50.5)),
        ({"kind": "integer", "low": 2, "high": 9}, (2, 9, 5)),
        ({"kind": "choice", "values": ["a", "b", "c"]}, ("a", "b", "c")),
    ],
)
def test_a_range_has_its_ends_then_its_middle(
    base: RunSpec, parameter: dict[str, Any], expected: tuple[Scalar, ...]
) -> None:
    space = make_space(base, {"schedule.epochs": parameter})

    assert candidate_values(space["schedule.epochs"]) == expected


def test_other_parameters_stay_as_in_the_base(base: RunSpec) -> None:
    space = make_space(
        base,
        {
            "distillation.cls_weight": {"kind": "uniform", "low": 0, "high": 2},
            "schedule.epochs": make_choice(1, 2),
        },
    )

    candidates = build_candidate_specs(space, "distillation.cls_weight", base=base, probe=PROBE)

    assert list(candidates.specs) == [0, 2]
    assert {spec.schedule.epochs for spec in candidates.specs.values()} == {base.schedule.epochs}


def test_parents_are_as_in_the_base_if_they_are_active_there(base: RunSpec) -> None:
    kinds = make_choice("mobilenet_v2", "resnet")
    space = make_space(base, {KIND: kinds, DEPTH: make_choice(18, 34, when={KIND: ["resnet"]})})

    assert values_with_parents(space, DEPTH, 34, base=base) == {DEPTH: 34, KIND: "resnet"}


def test_another_kind_comes_with_the_fields_that_it_needs(base: RunSpec) -> None:
    light = base.model_dump(mode="json")
    light["student"]["backbone"] = {"kind": "mobilenet_v2", "width": 0.25}
    mobile = RunSpec.model_validate(light)
    kinds = make_choice("mobilenet_v2", "resnet")
    space = make_space(mobile, {KIND: kinds, DEPTH: make_choice(18, 34, when={KIND: ["resnet"]})})

    candidates = build_candidate_specs(space, KIND, base=mobile, probe=PROBE)

    backbones = [spec.student.backbone.kind for spec in candidates.specs.values()]
    assert backbones == ["mobilenet_v2", "resnet"]


def test_the_middle_replaces_an_invalid_end(base: RunSpec) -> None:
    falling = base.schedule.model_dump(mode="json") | {
        "policy": {"kind": "step", "milestones": [3]}
    }
    late = RunSpec.model_validate(base.model_dump(mode="json") | {"schedule": falling})
    space = make_space(late, {"schedule.epochs": {"kind": "integer", "low": 1, "high": 9}})

    candidates = build_candidate_specs(space, "schedule.epochs", base=late, probe=PROBE)

    assert list(candidates.specs) == [9, 5]


def test_a_parameter_without_valid_values_has_the_reason(base: RunSpec) -> None:
    space = make_space(base, {"schedule.optimizer.momentum": make_choice(0.5, 0.9)})

    candidates = build_candidate_specs(space, "schedule.optimizer.momentum", base=base, probe=PROBE)

    assert candidates.specs == {}
    assert "momentum" in candidates.error


def test_a_balance_comes_with_a_ratio(base: RunSpec) -> None:
    space = make_space(
        base,
        {
            "balance": {"kind": "uniform", "low": 0, "high": 1},
            "ratio": {"kind": "uniform", "low": 0.5, "high": 1},
        },
    )

    candidates = build_candidate_specs(space, "balance", base=base, probe=PROBE)

    weights = [
        (spec.distillation.cls_weight, spec.distillation.loc_weight)  # type: ignore[union-attr]
        for spec in candidates.specs.values()
    ]
    assert weights == [(0, 2), (0.25, 0)]
