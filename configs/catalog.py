"""Finds presets by name, and turns a preset and a person's changes into a `RunSpec`."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml
from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from configs.spec.base import Contract
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec

Document = dict[str, JsonValue]
_JOB: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)


class PresetFile(Contract):
    """A preset as written: a whole spec, or changes to another preset."""

    summary: str
    based_on: str | None = None
    spec: Document | None = None
    changes: dict[str, JsonValue] = Field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """An experiment with a name."""

    name: str
    summary: str
    document: Document


@dataclass(frozen=True)
class SpecProblem:
    """One thing that is wrong with a spec: the field as people write it, and what to do."""

    field: str
    message: str


class SpecError(ValueError):
    """A spec that cannot be: every problem at once."""

    def __init__(self, problems: tuple[SpecProblem, ...]) -> None:
        super().__init__(
            "; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems)
        )
        self.problems = problems


class UnknownPreset(LookupError):
    """No preset has this name."""

    def __init__(self, name: str) -> None:
        known = ", ".join(preset_names())
        super().__init__(f"There is no preset {name!r}. Presets: {known}.")
        self.name = name


def preset_names() -> tuple[str, ...]:
    """All presets, sorted; a name is the path under `configs/experiments` without `.yaml`."""
    return tuple(sorted(_names_under(_experiments(), prefix="")))


def load_preset(name: str) -> Preset:
    """The preset `name`, what it is based on worked in; `UnknownPreset` if there is none."""
    if name not in preset_names():
        raise UnknownPreset(name)
    text = _experiments().joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    written = PresetFile.model_validate(yaml.safe_load(text))
    if written.based_on is None:
        document = written.spec or {}
    else:
        document = load_preset(written.based_on).document
    return Preset(
        name=name, summary=written.summary, document=apply_changes(document, written.changes)
    )


def spec_from_preset(name: str, changes: Mapping[str, JsonValue] | None = None) -> RunSpec:
    """The spec of a preset after `changes`, keyed by dotted field; `SpecError` if it cannot be."""
    return parse_spec(apply_changes(load_preset(name).document, changes or {}))


def apply_changes(document: Document, changes: Mapping[str, JsonValue]) -> Document:
    """A copy of `document` with the value at each dotted path replaced."""
    result = document
    for path, value in changes.items():
        result = _with_value(result, path.split("."), value, whole=path)
    return result


def parse_spec(document: JsonValue) -> RunSpec:
    """A document as a `RunSpec`; `SpecError` names every field that is wrong."""
    try:
        return RunSpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(problems_from_validation(error, document)) from error


def parse_job(document: JsonValue) -> JobSpec:
    """A document as the spec of its task; `SpecError` names every field that is wrong."""
    try:
        return _JOB.validate_python(document)
    except ValidationError as error:
        raise SpecError(problems_from_validation(error, document)) from error


def problems_from_validation(error: ValidationError, document: Any) -> tuple[SpecProblem, ...]:
    """Pydantic's errors with fields as people write them, without the names of union members."""
    return tuple(
        SpecProblem(
            _field(item["loc"], document, is_missing=item["type"] == "missing"),
            _message(item["msg"]),
        )
        for item in error.errors()
    )


def _experiments() -> Traversable:
    return files("configs").joinpath("experiments")


def _names_under(folder: Traversable, *, prefix: str) -> list[str]:
    names: list[str] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            names += _names_under(entry, prefix=f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            names.append(prefix + entry.name.removesuffix(".yaml"))
    return names


def _with_value(document: Document, path: list[str], value: JsonValue, *, whole: str) -> Document:
    head, *rest = path
    if not rest:
        return {**document, head: value}
    inner = document.get(head)
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise SpecError((SpecProblem(whole, f"{head} is a plain value and has no fields"),))
    return {**document, head: _with_value(inner, rest, value, whole=whole)}


def _field(location: tuple[int | str, ...], document: Any, *, is_missing: bool) -> str:
    parts: list[str] = []
    here = document
    for index, step in enumerate(location):
        absent = is_missing and index == len(location) - 1
        if isinstance(here, dict) and (step in here or absent):
            parts.append(str(step))
            here = here.get(step)
        elif isinstance(here, list | tuple) and isinstance(step, int):
            parts.append(str(step))
            here = here[step] if step < len(here) else None
    return ".".join(parts)


def _message(text: str) -> str:
    return text.removeprefix("Value error, ")
