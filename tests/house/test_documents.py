"""The documents: what their commands name exists, and each command is run by a test.

`tests/integration/documents` runs the commands.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.catalog import preset_names
from tests.support.documents.containers import COMPOSE
from tests.support.documents.examples import (
    DOCUMENTS,
    PROGRAMS,
    ROOT,
    is_inline_command,
    is_known_name,
    read_examples,
)
from tests.support.documents.run_elsewhere import COMMANDS, MAKE, NotRun, RunBy

TEXTS = {path: (ROOT / path).read_text(encoding="utf-8") for path in DOCUMENTS}
TABLE: dict[str, RunBy | NotRun] = COMMANDS | {
    f"make {target}": entry for target, entry in MAKE.items()
}
RENAMED = "CHANGELOG.md"
"""Its tables list former names of commands."""


@cache
def command_lines() -> tuple[str, ...]:
    return tuple(
        example.text
        for document in DOCUMENTS
        for example in read_examples(document)
        if example.language == "bash"
    )


def inline_code(text: str) -> Iterator[str]:
    without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", without_blocks))


def test_no_entry_of_the_table_is_stale() -> None:
    targets = {match[1] for line in command_lines() if (match := re.search(r"make (\S+)", line))}

    assert set(COMMANDS) - set(command_lines()) == set(), "no document has these commands"
    assert set(MAKE) - targets == set(), "no document has these targets"


@pytest.mark.parametrize("line", TABLE)
def test_a_command_is_run_by_the_test_that_the_table_names(line: str) -> None:
    entry = TABLE[line]
    if not isinstance(entry, RunBy):
        assert entry.reason
        return
    path, _, name = entry.test.partition("::")
    sources = [source.read_text(encoding="utf-8") for source in modules_of(ROOT / path)]

    assert any(f"\ndef {name}(" in source for source in sources), f"{path} has no such test"
    for word in entry.arguments.split():
        assert any(word in source for source in sources), f"{word} is not in {path}"


def modules_of(path: Path) -> list[Path]:
    """A test module, its `conftest.py`, and what they import from `tests/support`."""
    conftest = path.with_name("conftest.py")
    modules = [path, conftest] if conftest.exists() else [path]
    for module in modules:  # it grows
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
                imported = ROOT / f"{(node.module or '').replace('.', '/')}.py"
                modules += [imported] if imported.is_file() and imported not in modules else []
    return modules


def test_inline_code_names_commands_that_exist() -> None:
    unknown = [
        f"{document}: {code}"
        for document, text in TEXTS.items()
        for code in inline_code(text)
        if code.partition(" ")[0] in PROGRAMS
        and str(document) != RENAMED
        and not is_known_name(code)
    ]

    assert unknown == []


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        match[1]
        for text in TEXTS.values()
        for match in re.finditer(r"(?:`|^)(?:\w+=\w+ )?make ([a-z-]+)", text, re.MULTILINE)
    }

    assert {"demo", "test", "setup"} <= named
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("`tandem status`", True),
        ("`tandem show r3k9...`", True),
        ("`tandem show`", False),
        ("`tandem data import-coco --name x ...`", False),
        ("`tandem no-such-command`", False),
        ("`FORCE_CUDA=1 make setup`", True),
        ("`docker compose`", False),
        ("`docker compose ps`", True),
        ("`make`", False),
        ("`docker/setup.sh`", True),
        ("`docker/environment.lock`", False),
        ("`POST /v1/runs`", False),
    ],
)
def test_inline_code_is_a_command_if_it_can_be_typed(code: str, expected: bool) -> None:
    assert is_inline_command(code) is expected


def test_services_and_profiles_of_the_documents_are_in_compose_yaml() -> None:
    stack: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    profiles = {
        name for service in stack["services"].values() for name in service.get("profiles", ())
    }
    lines = [line for line in command_lines() if line.startswith("docker compose ")]

    services = {
        match[1]
        for line in lines
        for pattern in (
            r"^docker compose (?:exec|run|logs|build)(?: -\S+(?: \S+:\S+)?)* (\S+)",
            r"--scale (\S+)=",
            r" up .*(?<=\s)([a-z][a-z-]*)$",
        )
        for match in re.finditer(pattern, line)
    }

    assert {"service", "tandem", "postgres", "ray-worker", "ray-worker-gpu"} <= services
    assert services <= set(stack["services"])
    assert {name for line in lines for name in re.findall(r"--profile (\S+)", line)} <= profiles


def test_every_preset_in_the_documents_exists() -> None:
    text = "\n".join(TEXTS.values())

    presets = set(re.findall(r"`((?:digits|coco|quick|bccd)/[a-z0-9_]+)`", text))

    assert presets
    assert presets <= set(preset_names())


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{document}: {target}"
        for document, text in TEXTS.items()
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
        if not (ROOT / document.parent / target).exists()
    ]

    assert broken == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
