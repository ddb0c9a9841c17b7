"""Parsing of parameters and settings of a sweep."""

from typing import Any

import pytest

from configs.spec.sweep import SweepSpec
from service.cli.errors import CliError
from service.cli.parsing import parse_assignments, parse_kind, parse_objective, parse_pack
from tests.support.factories import make_bckd_spec

CLS = "distillation.cls_weight"


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("uniform:0.5,2", {"kind": "uniform", "low": 0.5, "high": 2}),
        ("loguniform:1e-4,1e-2", {"kind": "loguniform", "low": 1e-4, "high": 1e-2}),
        ("int:1,8", {"kind": "integer", "low": 1, "high": 8}),
        ("choice:0,1,2.5", {"kind": "choice", "values": [0, 1, 2.5]}),
        ("choice:all,true", {"kind": "choice", "values": ["all", True]}),
        (
            "uniform:1,10@distillation.method=pkd",
            {"kind": "uniform", "low": 1, "high": 10, "when": {"distillation.method": ["pkd"]}},
        ),
        (
            "uniform:1,10@a=x,y@b=2",
            {"kind": "uniform", "low": 1, "high": 10, "when": {"a": ["x", "y"], "b": [2]}},
        ),
    ],
)
def test_bounds_values_and_conditions_are_parsed(text: str, parameter: dict[str, Any]) -> None:
    assert parse_assignments([f"{CLS}={text}"]).space == {CLS: parameter}


def test_other_assignments_are_changes() -> None:
    parsed = parse_assignments(["schedule.epochs=6", f"{CLS}=uniform:0,1", "tags.note=a:b"])

    assert parsed.changes == {"schedule.epochs": 6, "tags.note": "a:b"}
    assert set(parsed.space) == {CLS}


@pytest.mark.parametrize(
    "items",
    [
        [f"{CLS}=uniform:1"],
        [f"{CLS}=loguniform:1,2,3"],
        [f"{CLS}=uniform:1,2@method"],
        [f"{CLS}=uniform:1,2", f"{CLS}=uniform:1,3"],
        [f"{CLS}=uniform:1,2", f"{CLS}=4"],
        ["nothing"],
    ],
)
def test_an_invalid_parameter_is_refused_with_advice(items: list[str]) -> None:
    with pytest.raises(CliError) as exc_info:
        parse_assignments(items)

    assert exc_info.value.error_message.advice


def test_kinds_objectives_and_packs_are_parsed() -> None:
    assert parse_kind("tpe") == {"kind": "tpe"}
    assert parse_kind("asha:grace_epochs=2,factor=4") == {
        "kind": "asha",
        "grace_epochs": 2,
        "factor": 4,
    }
    assert parse_objective("train/loss:min") == {"metric": "train/loss", "goal": "min"}
    assert parse_objective("val/bbox_mAP") == {"metric": "val/bbox_mAP"}
    assert [parse_pack(text) for text in ("auto", "off", "4")] == ["auto", "off", 4]


def test_the_parsed_values_make_a_valid_spec() -> None:
    parsed = parse_assignments([f"{CLS}=loguniform:0.1,10", "distillation.loc_weight=choice:0,1,2"])

    spec = SweepSpec.model_validate(
        {
            "base": make_bckd_spec(),
            "space": parsed.space,
            "algorithm": parse_kind("grid:points=4"),
            "scheduler": parse_kind("median:min_trials=2"),
            "objectives": [parse_objective("val/bbox_mAP:max")],
            "pack": parse_pack("2"),
        }
    )

    assert spec.algorithm.kind == "grid"
