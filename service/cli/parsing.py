"""Parsing of assignments on the command line, e.g. `loss=loguniform:0.1,10@method=pkd`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.cli.errors import CliError, ErrorMessage

if TYPE_CHECKING:
    from pydantic import JsonValue


_KINDS = {"uniform": "uniform", "loguniform": "loguniform", "int": "integer", "choice": "choice"}


@dataclass(frozen=True)
class Assignments:
    """Parameters of a sweep, and fixed changes to its preset."""

    space: "dict[str, JsonValue]"
    changes: "dict[str, JsonValue]"


def parse_assignments(items: Iterable[str]) -> Assignments:
    """Split items into parameters (`uniform:`, `loguniform:`, `int:`, `choice:`) and changes."""
    space: dict[str, JsonValue] = {}
    change_items: list[str] = []
    for item in items:
        path, _, text = item.partition("=")
        kind, colon, bounds = text.partition(":")
        if not colon or kind.strip() not in _KINDS:
            change_items.append(item)
            continue
        if path.strip() in space:
            raise CliError(
                ErrorMessage(f"{path.strip()} is given twice.", advice=("Give it once.",))
            )
        space[path.strip()] = _parse_parameter(path.strip(), _KINDS[kind.strip()], bounds)
    changes = parse_changes(change_items)
    if both := sorted(space.keys() & changes.keys()):
        raise CliError(
            ErrorMessage(f"{both[0]} is given twice.", advice=("Sweep it or change it.",))
        )
    return Assignments(space, changes)


def parse_kind(text: str) -> "dict[str, JsonValue]":
    """Parse a kind with its settings, e.g. `asha` or `asha:grace_epochs=2,factor=4`."""
    kind, _, options = text.partition(":")
    settings = parse_changes(part for part in options.split(",") if part.strip())
    return {"kind": kind.strip(), **settings}


def parse_objective(text: str) -> "dict[str, JsonValue]":
    """Parse a metric with its goal, e.g. `val/bbox_mAP:max`; the goal defaults to max."""
    metric, colon, goal = text.rpartition(":")
    if colon and goal in ("max", "min"):
        return {"metric": metric, "goal": goal}
    return {"metric": text}


def parse_pack(text: str) -> "JsonValue":
    """Parse `auto`, `off` or a number of trials."""
    return int(text) if text.isdigit() else text


def _parse_parameter(path: str, kind: str, text: str) -> "dict[str, JsonValue]":
    """Parse the bounds or values of a parameter; each `@` starts a condition."""
    body, *conditions = text.split("@")
    values = [_parse_scalar(part) for part in body.split(",")]
    parameter: dict[str, JsonValue] = {"kind": kind}
    if kind == "choice":
        parameter["values"] = values
    elif len(values) == 2:
        parameter["low"], parameter["high"] = values
    else:
        advice = (f"Write e.g. {path}=uniform:0.5,2.",)
        raise CliError(ErrorMessage(f"{path} needs two bounds, got {body!r}.", advice=advice))
    if conditions:
        parameter["when"] = dict(_parse_condition(path, condition) for condition in conditions)
    return parameter


def _parse_condition(path: str, text: str) -> "tuple[str, JsonValue]":
    other, equals, values = text.partition("=")
    if not equals or not other.strip():
        advice = (f"Write e.g. {path}=uniform:1,10@distillation.method=pkd.",)
        raise CliError(
            ErrorMessage(
                f"The condition {text!r} of {path} is not of the form KEY=VALUE.", advice=advice
            )
        )
    return other.strip(), [_parse_scalar(part) for part in values.split(",")]


def _parse_scalar(text: str) -> "JsonValue":
    import yaml

    value: JsonValue = yaml.safe_load(text.strip())
    if not isinstance(value, str):
        return value
    try:
        # YAML reads 1e-4 as a string.
        return float(value)
    except ValueError:
        return value


def parse_changes(assignments: Iterable[str]) -> "dict[str, JsonValue]":
    """Parse assignments of YAML values to dotted fields, e.g. `data.image_size=[96,96]`."""
    import yaml

    changes: dict[str, JsonValue] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip():
            raise CliError(_invalid_assignment(assignment))
        if key.strip() in changes:
            raise CliError(
                ErrorMessage(f"{key.strip()} is given twice.", advice=("Give it once.",))
            )
        try:
            changes[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise CliError(_invalid_yaml(key.strip(), text)) from error
    return changes


def _invalid_assignment(text: str) -> ErrorMessage:
    return ErrorMessage(
        f"{text!r} is not of the form key=value.",
        advice=("Write a change as a dotted field and a value, e.g. schedule.epochs=3.",),
    )


def _invalid_yaml(key: str, text: str) -> ErrorMessage:
    return ErrorMessage(
        f"The value of {key} is not valid YAML: {text}",
        advice=("Write e.g. 3, 0.5, true, [96, 96] or {name: digits}, in quotes for the shell.",),
    )
