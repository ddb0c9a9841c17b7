"""Advice that names a command or a preset names one that exists."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from configs.catalog import preset_names
from configs.protocol.failure import FailureReason, advice
from configs.teacher_catalog import known_teachers
from tests.support.documents.examples import is_known_name, parses

ROOT = Path(__file__).parents[2]
_COMMAND = re.compile(r"`((?:tandem|tandem-worker) [^`]+)`")
_VALUE = re.compile(r"\{[^{}]*\}")
_INCOMPLETE = re.compile(r" \.\.\.|,")
"""Commands that end with options to be filled in, and lists of names of commands."""

NAMES_OF_OPTIONS = frozenset({"tandem-worker train --run-dir"})

STAND_INS = {
    "{card.preset}": "quick/instant",
    "RUN": "r0123456789ab",
    "NAME": "name",
    "PRESET": "quick/instant",
    "FOLDER": ".",
}


@cache
def list_texts() -> list[tuple[str, str]]:
    """The string constants of service, configs and workers, docstrings too, with their places.

    Placeholders of f-strings stay in braces.
    """
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", text)
        for package in ("service", "configs", "workers")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node, text in iter_strings(ast.parse(path.read_text(encoding="utf-8")))
    ]


def iter_strings(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node,
                "".join(
                    str(part.value)
                    if isinstance(part, ast.Constant)
                    else "{" + ast.unparse(part.value).replace("`", "") + "}"
                    for part in node.values
                    if isinstance(part, ast.Constant | ast.FormattedValue)
                ),
            )
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
        ):
            yield node, node.value


def list_commands() -> dict[str, str]:
    """The commands in texts, each with a file and line."""
    return {
        " ".join(match[1].split()): position
        for position, text in list_texts()
        for match in _COMMAND.finditer(text)
    }


def is_valid(command: str) -> bool:
    """Whether a command can be typed, or is the name of one, after its placeholders are filled."""
    line = command.removesuffix(" --help")
    for name, value in STAND_INS.items():
        line = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", value, line)
    line = _VALUE.sub("value", line)
    if _INCOMPLETE.search(line):
        return is_known_name(_INCOMPLETE.split(line)[0])
    return parses(line) or (is_known_name(line) and " -" not in line)


def test_every_command_in_a_text_exists() -> None:
    commands = list_commands()

    assert len(commands) > 40
    assert "tandem data digits --name {name}" in commands
    invalid = {position: command for command, position in commands.items() if not is_valid(command)}
    assert {p: c for p, c in invalid.items() if c not in NAMES_OF_OPTIONS} == {}


@pytest.mark.parametrize(
    "command",
    ["tandem token list", "tandem runs --al", "tandem data digits-tiny", "tandem-worker doctr"],
)
def test_a_command_that_does_not_exist_is_recognized(command: str) -> None:
    assert not is_valid(command)


def test_presets_in_texts_exist() -> None:
    groups = {name.partition("/")[0] for name in preset_names()}
    pattern = re.compile(rf"(?<![\w/.-])(?:{'|'.join(groups)})/[a-z0-9_]+(?![\w/.*-])")
    named = {
        (position, match[0]) for position, text in list_texts() for match in pattern.finditer(text)
    }

    assert len(named) > 10
    assert {(position, name) for position, name in named if name not in preset_names()} == set()


@pytest.mark.parametrize("name", known_teachers())
def test_the_preset_of_a_known_teacher_exists(name: str) -> None:
    assert known_teachers()[name].preset in preset_names()


@pytest.mark.parametrize("reason", FailureReason)
def test_every_failure_has_an_advice(reason: FailureReason) -> None:
    assert advice(reason)
