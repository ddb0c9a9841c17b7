"""Command lines as arguments, expanded as a shell does it."""

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

_ASSIGNMENT = re.compile(r"[A-Z_]+=.*", re.DOTALL)


def split_arguments(line: str, *, folder: Path | None = None) -> list[str]:
    """Split a command line in bash: quotes, variables, `~` and `$(...)` are expanded."""
    answer = subprocess.run(
        ["bash", "-c", f'printf "%s\\0" {line}'],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.split("\0")[:-1]


def split_assignments(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Separate the variables that are set before a command from the command."""
    count = 0
    while count < len(arguments) and _ASSIGNMENT.fullmatch(arguments[count]):
        count += 1
    return dict(word.split("=", 1) for word in arguments[:count]), arguments[count:]


def replace_placeholders(
    arguments: list[str], values: Mapping[str, Callable[[], str]]
) -> list[str]:
    """Replace placeholders such as `r3k9...`, also within a word; call only the values in use."""
    return [_replace(word, values) for word in arguments]


def _replace(word: str, values: Mapping[str, Callable[[], str]]) -> str:
    for placeholder, value in values.items():
        pattern = rf"(?<![\w.]){re.escape(placeholder)}(?![\w.])"
        if re.search(pattern, word):
            word = re.sub(pattern, value(), word)
    return word
