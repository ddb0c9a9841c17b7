"""What others rely on: every error's status, settings and presets."""

import re
from pathlib import Path

import pytest

from configs.catalog import preset_names, spec_from_preset
from service.api.errors import http_status
from service.domain import errors
from service.domain.errors.base import TandemError
from service.settings import Settings

ROOT = Path(__file__).parents[2]


def all_errors(
    kind: type[TandemError] = TandemError,
) -> list[type[TandemError]]:
    subclasses = [error for child in kind.__subclasses__() for error in all_errors(child)]
    return [*kind.__subclasses__(), *subclasses]


def leaves() -> list[type[TandemError]]:
    return sorted({e for e in all_errors() if not e.__subclasses__()}, key=lambda e: e.__name__)


@pytest.mark.parametrize("error", leaves(), ids=lambda error: error.__name__)
def test_every_error_has_a_code_of_its_own_a_status_and_a_place_in_the_tree(
    error: type[TandemError],
) -> None:
    status, title = http_status(error.__new__(error))

    assert error.code != TandemError.code
    assert 400 <= status < 600
    assert title
    assert error.code in (errors.__doc__ or "")


def test_error_codes_are_told_apart() -> None:
    codes = [error.code for error in leaves()]

    assert len(codes) == len(set(codes))


def test_the_example_of_the_environment_names_every_setting() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    named = set(re.findall(r"TANDEM_([A-Z_]+)=", example))

    assert named == {name.upper() for name in Settings.model_fields}


def test_every_preset_is_a_valid_spec() -> None:
    for name in preset_names():
        spec_from_preset(name)


def test_no_private_path_is_in_a_preset() -> None:
    for path in (ROOT / "configs" / "experiments").rglob("*.yaml"):
        assert "root:" not in path.read_text(encoding="utf-8")
        assert "checkpoint:" not in path.read_text(encoding="utf-8")
