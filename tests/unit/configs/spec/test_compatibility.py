"""Pairs of detectors that a method cannot compare, whichever package it is from."""

from typing import Any

import pytest

from configs.catalog import SpecError, parse_spec
from configs.spec.compatibility import find_incompatibilities
from configs.spec.detector import Student
from configs.spec.installed_methods import InstalledMethod
from tests.support.factories import make_bckd_spec

RELEASE: dict[str, Any] = {"version": "1", "digest": "0" * 64, "needs": ["towers"]}
WITHOUT_TOWERS = ("vfnet", "tood", "yolox")


def make_student(kind: str) -> Student:
    return Student.model_validate({"backbone": {"depth": 18}, "head": {"kind": kind}})


def make_method(**changes: Any) -> dict[str, Any]:
    return {"method": "installed", "name": "crossing", "fields": {}} | changes


@pytest.mark.parametrize(
    ("kind", "codes"), [("gfl", []), *((kind, ["no_towers"]) for kind in WITHOUT_TOWERS)]
)
def test_an_installed_method_needs_plain_towers_as_ours_do(kind: str, codes: list[str]) -> None:
    student = make_student(kind)
    method = InstalledMethod.model_validate(make_method(release=RELEASE))

    objections = find_incompatibilities(student, student.architecture, method)

    assert [item.code for item in objections] == codes
    reason = f"crossing needs heads with plain towers, and {kind}"
    assert all(reason in item.message for item in objections)


@pytest.mark.parametrize("kind", WITHOUT_TOWERS)
def test_a_worker_refuses_a_released_method_for_a_head_without_towers(kind: str) -> None:
    student = {"backbone": {"depth": 18}, "head": {"kind": kind}}

    with pytest.raises(SpecError, match=f"crossing needs a head with plain towers, and {kind}"):
        parse_spec(make_bckd_spec(student=student, distillation=make_method(release=RELEASE)))
