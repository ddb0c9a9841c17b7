"""Folders with few modules, and test modules that do not import each other."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_MODULES = 20
PACKAGES = ("configs", "dashboards", "docker", "service", "tandem", "tests", "workers")
MODULES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__init__.py"
]
FOLDERS = Counter(str(path.parent.relative_to(ROOT)) for path in MODULES)
TESTS = [path for path in MODULES if (ROOT / "tests") in path.parents]


def test_a_folder_has_few_modules() -> None:
    large = {folder: count for folder, count in FOLDERS.items() if count > MOST_MODULES}

    assert large == {}, "split it by subject"


def test_no_module_imports_a_test_module() -> None:
    imports = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in TESTS
        for name in imported_names(path.read_text(encoding="utf-8"))
        if is_of_test_module(name)
    ]

    assert imports == [], "move what is shared to tests/support"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from tests.api.test_runs import a_run", True),
        ("from tests.api import test_runs as runs", True),
        ("import tests.api.test_runs", True),
        ("from tests.conftest import Stage", True),
        ("def f():\n    from tests.api.test_runs import a_run", True),
        ("from tests.support.factories import a_run", False),
        ("from workers.test_device import check", False),
    ],
)
def test_imports_of_test_modules_are_recognized(line: str, expected: bool) -> None:
    assert any(map(is_of_test_module, imported_names(line))) is expected


def is_of_test_module(name: str) -> bool:
    first, *inner = name.split(".")
    return first == "tests" and any(
        part.startswith("test_") or part == "conftest" for part in inner
    )


def imported_names(code: str) -> Iterator[str]:
    """List the dotted names of all imports, also in functions; `from a import b` is a.b."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
