"""What a sweep varies, as people write it: `loss=loguniform:0.1,10@method=pkd`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.cli.errors import CliError, ErrorMessage

if TYPE_CHECKING:
    from pydantic import JsonValue


_KINDS = {"uniform": "uniform", "loguniform": "loguniform", "int": "integer", "choice": "choice"}


@dataclass(frozen=True)
class Assignments:
    """What is swept, and what is only changed."""

    space: "dict[str, JsonValue]"
    changes: "dict[str, JsonValue]"


def parse_assignments(items: Iterable[str]) -> Assignments:
    """Tells parameters (`uniform:`, `loguniform:`, `int:`, `choice:`) from plain changes."""
    space: dict[str, JsonValue] = {}
    plain: list[str] = []
    for item in items:
        path, _, text = item.partition("=")
        kind, colon, rest = text.partition(":")
        if not colon or kind.strip() not in _KINDS:
            plain.append(item)
            continue
        if path.strip() in space:
            raise CliError(
                ErrorMessage(f"{path.strip()} is given twice.", advice=("Give it once.",))
            )
        space[path.strip()] = _parameter(path.strip(), _KINDS[kind.strip()], rest)
    changes = parse_changes(plain)
    if both := sorted(space.keys() & changes.keys()):
        raise CliError(
            ErrorMessage(f"{both[0]} is given twice.", advice=("Sweep it or change it.",))
        )
    return Assignments(space, changes)


def parse_kind(text: str) -> "dict[str, JsonValue]":
    """A kind and its settings, as in `asha` or `asha:grace_epochs=2,factor=4`."""
    kind, _, rest = text.partition(":")
    settings = parse_changes(part for part in rest.split(",") if part.strip())
    return {"kind": kind.strip(), **settings}


def parse_objective(text: str) -> "dict[str, JsonValue]":
    """A metric and where it should go, as in `val/bbox_mAP:max`; max if it is not said."""
    metric, colon, goal = text.rpartition(":")
    if colon and goal in ("max", "min"):
        return {"metric": metric, "goal": goal}
    return {"metric": text}


def parse_pack(text: str) -> "JsonValue":
    """`auto`, `off` or a size."""
    return int(text) if text.isdigit() else text


def _parameter(path: str, kind: str, text: str) -> "dict[str, JsonValue]":
    """One parameter; what follows each `@` is a condition."""
    body, *conditions = text.split("@")
    values = [_scalar(part) for part in body.split(",")]
    parameter: dict[str, JsonValue] = {"kind": kind}
    if kind == "choice":
        parameter["values"] = values
    elif len(values) == 2:
        parameter["low"], parameter["high"] = values
    else:
        advice = (f"As in {path}=uniform:0.5,2.",)
        raise CliError(ErrorMessage(f"{path} needs two bounds, and got {body!r}.", advice=advice))
    if conditions:
        parameter["when"] = dict(_condition(path, condition) for condition in conditions)
    return parameter


def _condition(path: str, text: str) -> "tuple[str, JsonValue]":
    other, equals, values = text.partition("=")
    if not equals or not other.strip():
        advice = (f"As in {path}=uniform:1,10@distillation.method=pkd.",)
        raise CliError(ErrorMessage(f"The condition {text!r} of {path} is none.", advice=advice))
    return other.strip(), [_scalar(part) for part in values.split(",")]


def _scalar(text: str) -> "JsonValue":
    import yaml

    value: JsonValue = yaml.safe_load(text.strip())
    if not isinstance(value, str):
        return value
    try:
        # YAML reads 1e-4 as a word.
        return float(value)
    except ValueError:
        return value


def parse_changes(assignments: Iterable[str]) -> "dict[str, JsonValue]":
    """Dotted fields and their values, read as YAML, as in `data.image_size=[96,96]`."""
    import yaml

    changes: dict[str, JsonValue] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip():
            raise CliError(_no_assignment(assignment))
        if key.strip() in changes:
            raise CliError(
                ErrorMessage(f"{key.strip()} is given twice.", advice=("Give it once.",))
            )
        try:
            changes[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise CliError(_no_yaml(key.strip(), text)) from error
    return changes


def _no_assignment(text: str) -> ErrorMessage:
    return ErrorMessage(
        f"{text!r} is not of the form key=value.",
        advice=("Write a change as a dotted field and a value, as in schedule.epochs=3.",),
    )


def _no_yaml(key: str, text: str) -> ErrorMessage:
    return ErrorMessage(
        f"The value of {key} is not readable: {text}",
        advice=(
            "Values are YAML: 3, 0.5, true, [96, 96], {name: digits}. Quote them in the shell.",
        ),
    )
