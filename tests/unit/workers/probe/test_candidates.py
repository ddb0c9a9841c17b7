"""Which values of a space a probe looks at."""

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

FOUND = Probe.model_validate(
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


def a_space(base: RunSpec, space: dict[str, Any]) -> Space:
    return ProbeSpec.model_validate({"base": base, "space": space}).space


def one_of(*values: Scalar, **when: Any) -> dict[str, Any]:
    return {"kind": "choice", "values": list(values), **when}


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ({"kind": "uniform", "low": 0, "high": 1}, (0, 1, 0.5)),
        ({"kind": "loguniform", "low": 1, "high": 100}, (1, 100, 50.5)),
        ({"kind": "integer", "low": 2, "high": 9}, (2, 9, 5)),
        ({"kind": "choice", "values": ["a", "b", "c"]}, ("a", "b", "c")),
    ],
)
def test_a_range_is_looked_at_from_its_ends(
    base: RunSpec, parameter: dict[str, Any], values: tuple[Scalar, ...]
) -> None:
    space = a_space(base, {"schedule.epochs": parameter})

    assert candidate_values(space["schedule.epochs"]) == values


def test_the_others_stay_as_in_the_base(base: RunSpec) -> None:
    space = a_space(
        base,
        {
            "distillation.cls_weight": {"kind": "uniform", "low": 0, "high": 2},
            "schedule.epochs": one_of(1, 2),
        },
    )

    found = build_candidate_specs(space, "distillation.cls_weight", base=base, probe=FOUND)

    assert list(found.specs) == [0, 2]
    assert {spec.schedule.epochs for spec in found.specs.values()} == {base.schedule.epochs}


def test_what_a_parameter_depends_on_is_as_in_the_base_if_it_exists_there(base: RunSpec) -> None:
    kinds = one_of("mobilenet_v2", "resnet")
    space = a_space(base, {KIND: kinds, DEPTH: one_of(18, 34, when={KIND: ["resnet"]})})

    assert values_with_parents(space, DEPTH, 34, base=base) == {DEPTH: 34, KIND: "resnet"}


def test_another_kind_comes_with_the_fields_that_it_needs(base: RunSpec) -> None:
    light = base.model_dump(mode="json")
    light["student"]["backbone"] = {"kind": "mobilenet_v2", "width": 0.25}
    mobile = RunSpec.model_validate(light)
    kinds = one_of("mobilenet_v2", "resnet")
    space = a_space(mobile, {KIND: kinds, DEPTH: one_of(18, 34, when={KIND: ["resnet"]})})

    found = build_candidate_specs(space, KIND, base=mobile, probe=FOUND)

    backbones = [spec.student.backbone.kind for spec in found.specs.values()]
    assert backbones == ["mobilenet_v2", "resnet"]


def test_where_an_end_cannot_be_the_middle_is_looked_at(base: RunSpec) -> None:
    falling = base.schedule.model_dump(mode="json") | {
        "policy": {"kind": "step", "milestones": [3]}
    }
    late = RunSpec.model_validate(base.model_dump(mode="json") | {"schedule": falling})
    space = a_space(late, {"schedule.epochs": {"kind": "integer", "low": 1, "high": 9}})

    found = build_candidate_specs(space, "schedule.epochs", base=late, probe=FOUND)

    assert list(found.specs) == [9, 5]


def test_what_cannot_be_at_all_has_the_reason(base: RunSpec) -> None:
    space = a_space(base, {"schedule.optimizer.momentum": one_of(0.5, 0.9)})

    found = build_candidate_specs(space, "schedule.optimizer.momentum", base=base, probe=FOUND)

    assert found.specs == {}
    assert "momentum" in found.error


def test_a_balance_is_looked_at_beside_a_ratio(base: RunSpec) -> None:
    space = a_space(
        base,
        {
            "balance": {"kind": "uniform", "low": 0, "high": 1},
            "ratio": {"kind": "uniform", "low": 0.5, "high": 1},
        },
    )

    found = build_candidate_specs(space, "balance", base=base, probe=FOUND)

    weights = [
        (spec.distillation.cls_weight, spec.distillation.loc_weight)  # type: ignore[union-attr]
        for spec in found.specs.values()
    ]
    assert weights == [(0, 2), (0.25, 0)]
