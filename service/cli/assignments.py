"""`key=value` on the command line."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from service.cli.failures import Refusal, Refused

if TYPE_CHECKING:
    from pydantic import JsonValue


def changes_from(assignments: Iterable[str]) -> "dict[str, JsonValue]":
    """Dotted fields and their values, read as YAML, as in `data.image_size=[96,96]`."""
    import yaml

    changes: dict[str, JsonValue] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip():
            raise Refused(_no_assignment(assignment))
        if key.strip() in changes:
            raise Refused(Refusal(f"{key.strip()} is given twice.", advice=("Give it once.",)))
        try:
            changes[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise Refused(_no_yaml(key.strip(), text)) from error
    return changes


def _no_assignment(text: str) -> Refusal:
    return Refusal(
        f"{text!r} is not of the form key=value.",
        advice=("Write a change as a dotted field and a value, as in schedule.epochs=3.",),
    )


def _no_yaml(key: str, text: str) -> Refusal:
    return Refusal(
        f"The value of {key} is not readable: {text}",
        advice=(
            "Values are YAML: 3, 0.5, true, [96, 96], {name: digits}. Quote them in the shell.",
        ),
    )
