"""The commands and snippets of the documents, in the order of the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from typer.exceptions import TyperException
from typer.main import get_command

from service.cli import create_app
from tests.support.documents.command_line import split_arguments
from workers.cli import app as worker_app
from workers.cli.layout_imports import app as worker_data_app
from workers.cli.teachers import app as worker_teachers_app

ROOT = Path(__file__).parents[3]
DOCUMENTS = tuple(
    path.relative_to(ROOT)
    for pattern in ("*.md", "*/*.md", "tests/**/*.md")
    for path in sorted(ROOT.glob(pattern))
    if not path.relative_to(ROOT).parts[0].startswith(".")
)
HISTORY = frozenset({"CHANGELOG.md", "DECISIONS.md"})
"""Documents whose inline code describes earlier versions; only their blocks are commands."""

PROGRAMS = ("tandem", "tandem-worker")
_OTHER_PROGRAMS = ("apt-get", "curl", "docker", "docker-compose", "make", "mlflow", "uv")
_EXAMPLE = re.compile(
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```|(?<!`)`(?P<inline>[^`]+)`(?!`)",
    re.MULTILINE | re.DOTALL,
)
_ELLIPSIS = "..."


@dataclass(frozen=True)
class Example:
    """A command line or a Python snippet of a document."""

    document: str
    block: int
    """Number of the block in its document: one shell runs all lines of a block."""

    language: Literal["bash", "python"]
    text: str


def read_examples(document: Path) -> list[Example]:
    """All commands and snippets of a document: its blocks, and inline code that is a command."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Example(str(document), match.start(), language, code)
        for match in _EXAMPLE.finditer(text)
        for language, code in _examples_of(match, is_history=str(document) in HISTORY)
    ]


def _examples_of(
    match: re.Match[str], *, is_history: bool
) -> Iterator[tuple[Literal["bash", "python"], str]]:
    match match["language"]:
        case "bash":
            for line in match["code"].replace("\\\n", " ").splitlines():
                if line.strip():
                    yield "bash", _strip_comment(line)
        case "python":
            yield "python", match["code"]
        case None if not is_history and is_inline_command(inline := " ".join(match[0].split())):
            yield "bash", inline.strip("`")


def _strip_comment(line: str) -> str:
    return re.sub(r"\s+#\s.*", "", " ".join(line.split()))


def is_inline_command(code: str) -> bool:
    """Whether inline code is a command that could be typed, not only the name of one."""
    text = code.strip("`")
    program, *arguments = text.split()
    if program.isupper() or "=" in program:  # a variable is set for a command
        return len(arguments) > 1 and arguments[0] in (*PROGRAMS, *_OTHER_PROGRAMS)
    if _ELLIPSIS in arguments:
        return False
    if program in PROGRAMS:
        return parses(text)
    if program.startswith(".venv/bin/") or re.fullmatch(r"docker/[\w-]+\.sh", program):
        return True
    return program in _OTHER_PROGRAMS and bool(arguments) and arguments != ["compose"]


def parses(line: str) -> bool:
    """Whether `tandem` or `tandem-worker` accepts a command line; nothing is executed."""
    program, *arguments = split_arguments(line)
    try:
        _parse(_command_of(program), arguments)
    except (KeyError, ValueError, TyperException):
        return False
    return True


def is_known_name(line: str) -> bool:
    """Whether a command line begins with the name of a command, whatever follows."""
    program, *arguments = line.split()
    command = _command_of(program)
    while arguments and (commands := getattr(command, "commands", None)) is not None:
        if arguments[0] not in commands:
            return False
        command = commands[arguments.pop(0)]
    return True


@cache
def _command_of(program: str) -> Any:
    if program == "tandem":
        return get_command(create_app())
    command: Any = get_command(worker_app)
    command.commands["teachers"] = get_command(worker_teachers_app)
    command.commands["data"] = get_command(worker_data_app)
    return command


def _parse(command: Any, arguments: list[str]) -> None:
    commands = getattr(command, "commands", None)
    if commands is not None:
        name, *remaining = arguments
        _parse(commands[name], remaining)
        return
    try:
        command.make_context(command.name, arguments)
    except TyperException as error:
        if type(error).__name__ != "BadParameter":  # a file or number that a placeholder stands for
            raise
