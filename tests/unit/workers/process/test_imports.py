"""Modules whose import waits until they are used."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workers.process.imports import defer_imports, pause_garbage_collection

LIBRARY = "lib_that_waits"
USER = "user_of_it"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Has a library, and a module that imports it in several ways."""
    package = tmp_path / LIBRARY
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "shapes.py").write_text(
        "class Square:\n    def __init__(self, side):\n        self.area = side * side\n"
        "def double(number):\n    return 2 * number\n"
    )
    (tmp_path / f"{USER}.py").write_text(
        f"import {LIBRARY}\n"
        f"import {LIBRARY}.shapes as shapes\n"
        f"from {LIBRARY}.shapes import Square, double\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith((LIBRARY, USER))]:
        del sys.modules[name]


@contextmanager
def deferring() -> Iterator[None]:
    with defer_imports(f"{LIBRARY}.shapes"):
        yield


def test_a_module_that_is_deferred_is_not_imported(folder: Path) -> None:
    with deferring():
        __import__(USER)

    assert LIBRARY not in sys.modules
    assert f"{LIBRARY}.shapes" not in sys.modules


def test_its_functions_and_classes_are_the_real_ones_when_they_are_called(folder: Path) -> None:
    with deferring():
        user = __import__(USER)

    assert user.double(3) == 6
    assert user.shapes.double(4) == 8
    assert user.Square(5).area == 25
    assert isinstance(user.Square(5), sys.modules[f"{LIBRARY}.shapes"].Square)


def test_another_module_imports_it_as_always(folder: Path) -> None:
    with deferring():
        __import__(USER)

    shapes = __import__(f"{LIBRARY}.shapes", fromlist=["Square"])

    assert isinstance(shapes.Square, type)


def test_a_module_that_is_imported_already_is_kept(folder: Path) -> None:
    shapes = __import__(f"{LIBRARY}.shapes", fromlist=["Square"])
    with deferring():
        user = __import__(USER)

    assert user.Square is shapes.Square
    assert sys.modules[f"{LIBRARY}.shapes"] is shapes


def test_a_library_that_is_missing_is_named_when_it_is_used(folder: Path) -> None:
    (folder / LIBRARY / "shapes.py").unlink()
    with deferring():
        user = __import__(USER)

    with pytest.raises(ModuleNotFoundError, match=f"{LIBRARY}.shapes"):
        user.double(1)


def test_an_error_leaves_no_placeholder(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), deferring():
        raise ZeroDivisionError

    assert LIBRARY not in sys.modules


def test_garbage_is_collected_again_after_a_pause() -> None:
    with pause_garbage_collection():
        assert not gc.isenabled()

    assert gc.isenabled()
    gc.unfreeze()
