"""Names are terms of the field: no prose as names, no class name with two meanings."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "configs",
    "dashboards",
    "docker",
    "service",
    "tandem",
    "workers",
    "tests/support",
)

_NEVER = """
told said asked here there whole words wish wants shown given made kept gone behind beside alone
began looked heard room rooms pieces slip slips voice pulse desk twin twins story theirs ours
everything nobody somebody
"""
_ONLY_IN_COMPOUNDS = (
    "found one known place places way who rest others course bench look looks taken left"
)

PROSE = frozenset(_NEVER.split())
"""Words that are not allowed in any part of a name."""

PROSE_BY_ITSELF = frozenset(_ONLY_IN_COMPOUNDS.split())
"""Words that are allowed only as part of a name (`one_hot`, `known_hosts`)."""

OVERRIDDEN = frozenset({"connection_made"})
"""Methods whose names a base class of a library gives."""

SHARED_CLASS_NAMES: dict[str, str] = {}
"""Class names that two modules share intentionally, and why."""

MAX_FRAGMENT_LENGTH = 3
MAX_FRAGMENTS = 20
MAX_COPIES = 20


@cache
def modules(packages: tuple[str, ...] = PACKAGES) -> dict[str, ast.Module]:
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts and "mmdet" not in path.relative_to(ROOT).parts
    }


def assigned_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno


def is_prose(name: str) -> bool:
    bare = name.lower().strip("_")
    if name in OVERRIDDEN:
        return False
    return bool(set(bare.split("_")) & PROSE) or bare in PROSE_BY_ITSELF


def docstrings() -> Counter[str]:
    functions = (
        node
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return Counter(text for node in functions if (text := ast.get_docstring(node)))


def test_no_name_is_prose() -> None:
    prose = [
        f"{module}:{line} {name}"
        for module, tree in (modules() | modules(("tests",))).items()
        for name, line in assigned_names(tree)
        if is_prose(name) and not (module.startswith("tests/") and name.startswith("test_"))
    ]

    assert prose == [], "use the field's term; CONTRIBUTING.md, Language, has the list and why"


def test_a_class_name_means_one_class() -> None:
    modules_by_name = defaultdict(set)
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                modules_by_name[node.name].add(module)

    shared = {name: sorted(paths) for name, paths in modules_by_name.items() if len(paths) > 1}

    assert {name: paths for name, paths in shared.items() if name not in SHARED_CLASS_NAMES} == {}
    assert set(SHARED_CLASS_NAMES) <= set(shared), "an exception that nobody needs any more"


def test_docstrings_are_not_copied() -> None:
    copies = {text: count for text, count in docstrings().items() if count > 1}

    assert sum(copies.values()) <= MAX_COPIES, "\n".join(sorted(copies))


def test_docstrings_are_no_fragments() -> None:
    fragments = [text for text in docstrings() if len(text.split()) <= MAX_FRAGMENT_LENGTH]

    assert len(fragments) <= MAX_FRAGMENTS, "\n".join(sorted(fragments))


def test_none_is_explained_by_its_meaning() -> None:
    idiom = re.compile(r"[;.(] ?(none|empty): ", re.IGNORECASE)
    locations = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and idiom.search(node.value.value)
    ]

    assert locations == [], "say what None means: 'None until the first evaluation'"
