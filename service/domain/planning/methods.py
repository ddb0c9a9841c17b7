"""Checks the fields of methods of other packages by the schemas that workers reported; no I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydantic import JsonValue
from referencing import Registry

from configs.protocol.methods import MethodCard, MethodCatalog
from configs.spec.active_methods import installed_methods, replace_installed
from configs.spec.installed_methods import InstalledMethod
from configs.spec.run import RunSpec
from configs.suggestions import ask_did_you_mean, list_names
from service.domain.errors.base import FieldError
from service.domain.errors.requests import SpecRefused

_FIELD = "distillation"


@dataclass(frozen=True)
class CatalogState:
    """What is known of the workers' methods."""

    catalog: MethodCatalog | None = None
    """None until the workers have answered."""

    is_pending: bool = False
    """Whether a job is asking them now."""

    problem: str | None = None
    """Why they did not answer; None if they did, or nobody has asked."""


def needs_catalog(spec: object) -> bool:
    """Whether a spec names a method of another package."""
    return isinstance(spec, RunSpec) and bool(installed_methods(spec.distillation))


def pin_methods(spec: RunSpec, catalog: MethodCatalog) -> RunSpec:
    """The spec with all fields and the releases of its installed methods.

    Raises `SpecRefused` if the workers do not have a method, or not the release that the spec
    names, and for fields that its schema refuses.
    """
    cards = {card.name: card for card in catalog.methods}
    problems: list[FieldError] = []
    pinned = {}
    for field, method in installed_methods(spec.distillation).items():
        owner = field.removesuffix(".fields")
        if (card := cards.get(method.name)) is None:
            problems.append(_unknown_method(method.name, catalog, owner=owner))
            continue
        problems += _check_release(method, card, owner=owner)
        problems += _check_fields(method.fields, card, field=field)
        release = {"fields": _fill_defaults(method.fields, card), "release": card.release}
        pinned[field] = method.model_copy(update=release)
    if problems:
        raise SpecRefused(problems)
    return spec.model_copy(update={_FIELD: replace_installed(spec.distillation, pinned)})


def _unknown_method(name: str, catalog: MethodCatalog, *, owner: str) -> FieldError:
    names = [card.name for card in catalog.methods]
    if reason := next((text for text in catalog.problems if repr(name) in text), None):
        message = f"the workers have {name}, but cannot use it: {reason}"
    else:
        installed = list_names(names) if names else "none"
        question = ask_did_you_mean(name, names)
        message = f"the workers have no method {name!r}" + (
            f"; {question}" if question else f"; installed methods: {installed}"
        )
    # The name of an additional method is the last part of its own field.
    field = f"{_FIELD}.name" if owner == _FIELD else owner
    return FieldError(field, "method_not_found", message)


def _check_release(
    method: InstalledMethod, card: MethodCard, *, owner: str
) -> Iterator[FieldError]:
    if method.release is not None and not method.release.has_same_code(card.release):
        yield FieldError(
            f"{owner}.release",
            "method_changed",
            f"the workers have version {card.release.version} of {card.name} (digest "
            f"{card.release.digest[:12]}), not this one; leave the release out to use theirs",
        )


def _check_fields(
    fields: Mapping[str, JsonValue], card: MethodCard, *, field: str
) -> Iterator[FieldError]:
    # With a registry of its own, the validator looks nothing up over the network.
    validator = Draft202012Validator(card.fields, registry=Registry())
    errors: Iterable[ValidationError] = validator.iter_errors(fields)
    for error in sorted(errors, key=lambda error: error.json_path):
        path = ".".join(str(key) for key in (field, *error.absolute_path))
        yield FieldError(path, "invalid", error.message)


def _fill_defaults(fields: Mapping[str, JsonValue], card: MethodCard) -> dict[str, JsonValue]:
    properties = card.fields.get("properties")
    if not isinstance(properties, dict):
        return dict(fields)
    defaults = {
        name: schema["default"]
        for name, schema in properties.items()
        if isinstance(schema, dict) and "default" in schema
    }
    return {**defaults, **fields}
