"""Methods of Tandem and of other packages, through the same entry points."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

import pytest

from configs.metric_keys import DISTILLATION_TERMS
from configs.spec.active_methods import replace_installed, set_weights, terms_by_weight
from configs.spec.distillation import Bckd, ExtraMethods, Method
from configs.spec.installed_methods import InstalledMethod, MethodRelease
from tests.support.training.installed_methods import (
    SHIFT,
    SHIFT_WITHOUT_LABELS,
    forget_methods,
    install_method,
)
from workers.distillation.methods.golden import GoldenCase
from workers.distillation.methods.registry import (
    GROUP,
    compute_terms,
    find_entry_point,
    get_method,
    resolve_method,
    resolve_methods,
)
from workers.distillation.methods.release import read_release
from workers.errors import MethodMismatch

NAMES = sorted(entry_points(group=GROUP).names)
GOLDEN_CASES = [
    pytest.param(case, id=name) for name in NAMES for case in get_method(name).golden_cases()
]


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    yield
    forget_methods()


def test_every_method_of_the_spec_is_a_plug_in() -> None:
    spec_types = {spec_type.name(): spec_type for spec_type in get_args(Method)}

    assert {name: get_method(name).spec_type for name in NAMES} == spec_types


def test_every_method_except_bckd_can_be_added_to_it() -> None:
    assert set(ExtraMethods.model_fields) == {*NAMES, "installed"} - {Bckd.name()}


def test_no_two_methods_share_a_loss_term() -> None:
    terms = [term for name in NAMES for term in get_method(name).spec_type.traits.terms.values()]

    assert sorted(terms) == sorted(DISTILLATION_TERMS)


def test_every_method_has_a_golden_case() -> None:
    assert [name for name in NAMES if not get_method(name).golden_cases()] == []


@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_a_method_computes_its_golden_case(case: GoldenCase) -> None:
    terms = compute_terms(case.spec, case.batch, case.adapters)

    sums = {name: float(sum(level.detach() for level in levels)) for name, levels in terms.items()}
    assert sums == pytest.approx(case.expected, rel=1e-5)


def test_a_method_of_another_package_is_validated_by_its_own_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path, monkeypatch)

    spec: Any = resolve_method(InstalledMethod(name="shift", fields={"weight": 2.5}))

    assert (spec.method, spec.weight, spec.traits.title) == ("shift", 2.5, "Shift")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": 0}, "weight: needs more than 0"),
        ({"weigth": 1}, "did you mean weight"),
        ({"method": "pkd", "wait": 1}, "there is no such field"),
    ],
)
def test_fields_that_its_class_refuses_are_named(
    fields: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path, monkeypatch)

    with pytest.raises(MethodMismatch, match=message):
        resolve_method(InstalledMethod(name="shift", fields=fields))


def test_a_method_that_is_not_installed_is_refused() -> None:
    with pytest.raises(MethodMismatch, match=r"No package in this environment has .* 'shift'"):
        resolve_method(InstalledMethod(name="shift", fields={}))


def test_a_run_is_not_continued_with_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = install_method(tmp_path, monkeypatch)
    spec_type = get_method("shift").spec_type
    release = read_release(find_entry_point("shift"), spec_type.traits)
    method = InstalledMethod(name="shift", fields={}, release=release)
    assert resolve_method(method) == spec_type(method="shift")

    file.write_text(SHIFT.replace("square()", "abs()"), encoding="utf-8")
    forget_methods()

    with pytest.raises(MethodMismatch, match="install the former again"):
        resolve_method(method)


def test_what_a_release_says_besides_its_code_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in runs of versions whose releases did not say whether a method needs labels."""
    install_method(tmp_path, monkeypatch, code=SHIFT_WITHOUT_LABELS)
    release = read_release(find_entry_point("shift"), get_method("shift").spec_type.traits)
    older = MethodRelease.model_validate(release.model_dump(exclude={"needs_labels"}))

    spec = resolve_method(InstalledMethod(name="shift", fields={}, release=older))

    assert (release.needs_labels, older.needs_labels) == (False, True)
    assert spec.method == "shift"


def test_methods_of_other_packages_are_added_to_bckd_and_pinned_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path, monkeypatch)
    bckd = Bckd.model_validate({"extra": {"installed": {"shift": {"fields": {"weight": 2.5}}}}})
    field = "distillation.extra.installed.shift.fields"

    specs = resolve_methods(bckd)
    weighted: Any = resolve_methods(set_weights(bckd, {f"{field}.weight": 7.0}))

    assert list(specs) == ["distillation", field]
    assert terms_by_weight(specs)[f"{field}.weight"] == "distill_shift"
    assert weighted[field].weight == 7.0
    release = MethodRelease(version="0.9", digest="0" * 64, needs=())
    other = InstalledMethod(name="shift", fields={}, release=release)
    with pytest.raises(MethodMismatch, match=r"version 0\.9 of shift"):
        resolve_methods(replace_installed(bckd, {field: other}))


def test_two_methods_with_a_loss_term_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = SHIFT.replace('Literal["shift"] = "shift"', 'Literal["shift_more"] = "shift_more"')
    install_method(
        tmp_path / "first", monkeypatch, code=SHIFT.replace("distill_shift", "distill_shift_more")
    )
    install_method(
        tmp_path / "second",
        monkeypatch,
        code=longer.replace("distill_shift", "distill_shift_more"),
        name="shift_more",
        value="acme_more:ShiftMethod",
        package="acme-more",
    )
    bckd = Bckd.model_validate({"extra": {"installed": {"shift": {}, "shift_more": {}}}})

    with pytest.raises(MethodMismatch, match="shift and shift_more both have a loss term"):
        resolve_methods(bckd)


def test_two_packages_with_a_method_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path / "first", monkeypatch, name="pkd")

    with pytest.raises(MethodMismatch, match=r"acme-shift.*tandem-distill|tandem-distill.*acme"):
        get_method("pkd")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(FeatureMethod[Shift])", "", "no subclass of DistillationMethod"),
        ('Literal["shift"] = "shift"', 'Literal["shove"] = "shove"', "unlike its entry point"),
        ('"weight": "distill', '"wait": "distill', "no such field"),
        ("1.0\n", "1.0\n    other: PositiveWeight = 2.0\n", "term of its weight 'other'"),
        ("distill_shift", "cls", "has to begin with distill_shift"),
        ("from typing", "import no_such_module\nfrom typing", "cannot be imported"),
    ],
)
def test_a_method_that_breaks_a_rule_is_refused(
    old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path, monkeypatch, code=SHIFT.replace(old, new))

    with pytest.raises(MethodMismatch, match=message):
        get_method("shift")
