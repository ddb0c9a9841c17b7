"""The package that programs import, and modules of other people with the names of ours."""

import sys
from pathlib import Path

import pytest

import service.client
import tandem
from tandem.imports import explain_import_error


def test_the_package_exports_the_client_and_what_it_needs() -> None:
    assert tandem.TandemClient is service.client.TandemClient
    assert tandem.__all__ == sorted(tandem.__all__)
    assert all(hasattr(tandem, name) for name in tandem.__all__)


@pytest.mark.parametrize("name", ["service", "configs"])
@pytest.mark.parametrize("file", ["{}.py", "{}/__init__.py"], ids=["a module", "a package"])
def test_a_module_that_hides_one_of_our_packages_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    other = tmp_path / file.format(name)
    other.parent.mkdir(exist_ok=True)
    other.touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name)

    explained = explain_import_error(ImportError("No module named 'service.api'"))

    assert str(explained).startswith(f"Tandem's package '{name}' is hidden by {other}.")


def test_an_import_error_of_another_kind_stays_as_it_is() -> None:
    error = ImportError("No module named 'httpx'")

    assert explain_import_error(error) is error
