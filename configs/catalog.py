"""Loads presets by name, and builds a `RunSpec` from a preset and changes."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from configs.problems import SpecProblem, describe_problems, problems_from_validation
from configs.spec.base import Contract
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from configs.spec.weights import is_weight_field
from configs.suggestions import ask_did_you_mean_path, list_names

Document = dict[str, JsonValue]

_MAX_PATH_FIELDS = 32
"""Fields in the dotted path of a change; no spec is nearly as deep."""

_JOB: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_EXPERIMENTS = Path(__file__).parent / "experiments"


class PresetFile(Contract):
    """A preset file: a complete spec, or changes to another preset."""

    summary: str
    based_on: str | None = None
    spec: Document | None = None
    changes: dict[str, JsonValue] = Field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A named experiment; `document` has the changes of all its bases applied."""

    name: str
    summary: str
    document: Document


class SpecError(ValueError):
    """An invalid spec, with all of its problems."""

    def __init__(self, problems: tuple[SpecProblem, ...]) -> None:
        super().__init__(describe_problems(problems))
        self.problems = problems


class UnknownPreset(LookupError):
    """There is no preset of this name."""

    def __init__(self, name: str) -> None:
        question = ask_did_you_mean_path(name, preset_names())
        super().__init__(
            f"There is no preset {name!r}; {question}"
            if question
            else f"There is no preset {name!r}. Presets: {list_names(preset_names())}."
        )
        self.name = name


def preset_names() -> tuple[str, ...]:
    """All preset names, sorted: paths under `configs/experiments` without `.yaml`."""
    return tuple(sorted(_list_names(_EXPERIMENTS, prefix="")))


def load_preset(name: str) -> Preset:
    """Load a preset and resolve its `based_on`. Raises `UnknownPreset`."""
    return copy.deepcopy(_load_shared_preset(name))


def spec_from_preset(name: str, changes: Mapping[str, JsonValue] | None = None) -> RunSpec:
    """The spec of a preset after `changes`, keyed by dotted field. Raises `SpecError`."""
    return parse_spec(apply_changes(_load_shared_preset(name).document, changes or {}))


def apply_changes(document: Document, changes: Mapping[str, JsonValue]) -> Document:
    """A copy of `document` with the value at each dotted path replaced. Raises `SpecError`.

    Each dictionary is copied once at most, so the time is linear in the size of both arguments.
    """
    result = dict(document)
    copies = {id(result): result}
    for path, value in changes.items():
        _replace_value(result, path, value, copies=copies)
    return result


def parse_spec(document: JsonValue) -> RunSpec:
    """Validate a training spec. Raises `SpecError` with every invalid field."""
    try:
        return RunSpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(problems_from_validation(error, document, RunSpec)) from error


def parse_job(document: JsonValue) -> JobSpec:
    """Validate a spec of any task. Raises `SpecError` with every invalid field."""
    try:
        return _JOB.validate_python(document)
    except ValidationError as error:
        raise SpecError(problems_from_validation(error, document, JobSpec)) from error


def _load_shared_preset(name: str) -> Preset:
    """A preset whose document others have as well: it may not be changed."""
    preset_file = _read_preset_file(name)
    if preset_file.based_on is None:
        document = preset_file.spec or {}
    else:
        document = _load_shared_preset(preset_file.based_on).document
    return Preset(
        name=name,
        summary=preset_file.summary,
        document=apply_changes(document, preset_file.changes),
    )


def _read_preset_file(name: str) -> PresetFile:
    """The file of a preset, parsed again only after a change. Raises `UnknownPreset`."""
    parts = name.split("/")
    if "\0" in name or not all(parts) or {".", ".."} & set(parts):
        raise UnknownPreset(name)
    path = _EXPERIMENTS.joinpath(*parts[:-1], f"{parts[-1]}.yaml")
    try:
        status = path.stat()
    except OSError as error:
        raise UnknownPreset(name) from error
    return _parse_preset_file(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=256)
def _parse_preset_file(path: Path, _version: tuple[int, ...]) -> PresetFile:
    """YAML takes milliseconds; `_version` differs between versions of the file."""
    return PresetFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def _list_names(folder: Path, *, prefix: str) -> list[str]:
    names: list[str] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            names += _list_names(entry, prefix=f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            names.append(prefix + entry.name.removesuffix(".yaml"))
    return names


def _replace_value(
    document: Document, path: str, value: JsonValue, *, copies: dict[int, Document]
) -> None:
    """Replace the value at a dotted path. `copies` are the dictionaries that may be changed, by
    their `id`; it keeps them alive, so that no other dictionary gets their `id`."""
    *parents, last = path.split(".", _MAX_PATH_FIELDS)
    if len(parents) == _MAX_PATH_FIELDS:
        message = f"a path has at most {_MAX_PATH_FIELDS} fields"
        raise SpecError((SpecProblem(path, message),))
    for key in parents:
        child = document.get(key)
        if child is None:
            child = {}
        if isinstance(child, float | int) and _moves_weight(path):
            child = {"value": child} if child else {}
        if not isinstance(child, dict):
            raise SpecError((SpecProblem(path, f"{key} is a plain value and has no fields"),))
        if id(child) not in copies:
            child = dict(child)
            copies[id(child)] = child
        document[key] = child
        document = child
    document[last] = value


def _moves_weight(path: str) -> bool:
    """Whether a path is that of a field of a weight, which may have been a plain number so far."""
    return path.startswith("distillation.") and is_weight_field(path.rpartition(".")[2])
