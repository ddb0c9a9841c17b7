"""Limits of the sizes of files and functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
MODULES = sorted(
    path
    for package in ("configs", "dashboards", "service", "tandem", "workers")
    for path in (ROOT / package).rglob("*.py")
    if "migrations" not in path.parts
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    long = [
        f"{name} has {length} lines"
        for name, length in functions(text)
        if length > LONGEST_FUNCTION
    ]

    assert text.count("\n") <= LONGEST_MODULE, "split it by the questions that it answers"
    assert long == [], "name its steps"


def functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1
