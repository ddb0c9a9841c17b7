"""A run resumes with the methods that it began with, or says what differs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.spec.distillation import Bckd, MethodSpec, Pkd
from tests.support.training.installed_methods import SHIFT, forget_methods, install_method
from workers.distillation.methods.catalog import list_releases
from workers.distillation.methods.registry import get_method
from workers.errors import MethodMismatch
from workers.machine.environment import write_environment
from workers.training.method_releases import check_releases

METHODS = (Bckd(), Pkd())


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    yield
    forget_methods()


def write_attempt(run_dir: Path, *specs: MethodSpec, **changes: Any) -> None:
    """What an attempt records, with changes of the first method's release."""
    releases = list_releases(specs)
    first = specs[0].method
    releases[first] = releases[first].model_copy(update=changes)
    write_environment(run_dir / "environment.json", device=torch.device("cpu"), methods=releases)


def test_the_same_methods_are_not_mentioned(tmp_path: Path) -> None:
    write_attempt(tmp_path, *METHODS)

    assert list(check_releases(tmp_path, METHODS)) == []


def test_another_version_of_a_method_of_ours_is_refused(tmp_path: Path) -> None:
    write_attempt(tmp_path, *METHODS, version="0")

    with pytest.raises(MethodMismatch, match=r"version 0 of bckd .* version 1 .* as a new run"):
        list(check_releases(tmp_path, METHODS))


def test_other_code_of_the_same_version_of_ours_is_a_note(tmp_path: Path) -> None:
    write_attempt(tmp_path, *METHODS, digest="a" * 64)

    (note,) = check_releases(tmp_path, METHODS)

    assert "The code of bckd differs" in note
    assert "digest aaaaaaaaaaaa, now" in note


def test_other_code_of_another_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a run that was started without the service, whose spec has no release."""
    file = install_method(tmp_path / "site", monkeypatch)
    spec = get_method("shift").spec_type(method="shift")
    write_attempt(tmp_path, spec)
    assert list(check_releases(tmp_path, [spec])) == []

    file.write_text(SHIFT.replace("square()", "abs()"), encoding="utf-8")
    forget_methods()

    with pytest.raises(MethodMismatch, match="version 1 of shift"):
        list(check_releases(tmp_path, [spec]))


@pytest.mark.parametrize("document", [None, "{", json.dumps({"versions": {}})])
def test_what_an_earlier_version_did_not_record_is_not_compared(
    tmp_path: Path, document: str | None
) -> None:
    if document is not None:
        (tmp_path / "environment.json").write_text(document, encoding="utf-8")

    assert list(check_releases(tmp_path, METHODS)) == []
