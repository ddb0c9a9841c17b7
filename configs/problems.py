"""Pydantic's validation errors as problems: the field as people write it, and what to write."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from configs.model_fields import (
    Location,
    Variant,
    find_variants,
    list_field_paths,
    split_root,
)
from configs.spec.base import (
    NAME_PATTERN,
    PRINTABLE_PATTERN,
    RUN_ID_PATTERN,
    SHA256_PATTERN,
)
from configs.suggestions import (
    ask_did_you_mean,
    join_with_or,
    list_names,
    measure_similarity,
    pick_most_similar,
)

_DISTANT = 0.96
"""Factor of the similarity of a field that is elsewhere in the document, by each level."""

_MAX_DOTS = 2
"""Fields that are deeper in the document are not suggested for another place."""

MAX_PROBLEMS = 50
"""Problems that are explained; of others the number is told."""

_MAX_INPUT = 60
"""Characters of an invalid value that a message quotes."""


@dataclass(frozen=True)
class SpecProblem:
    """One problem of a document: the dotted field as people write it, and what to do."""

    field: str
    message: str


def problems_from_validation(
    error: ValidationError, document: Any, root: Any
) -> tuple[SpecProblem, ...]:
    """The problems of a document that was validated as `root`, a model or a union of models."""
    return explain_errors(error.errors(), document, root)


def describe_problems(problems: Iterable[SpecProblem]) -> str:
    """All problems in one line."""
    return "; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems)


def describe_validation(error: ValidationError, root: Any, document: Any = None) -> str:
    """Pydantic's errors in one line."""
    return describe_problems(problems_from_validation(error, document, root))


def explain_errors(
    errors: Iterable[Mapping[str, Any]], document: Any, root: Any, *, shows_input: bool = True
) -> tuple[SpecProblem, ...]:
    """Problems with dotted fields, without tags of unions, in one sentence each.

    `errors` have the form of `ValidationError.errors()`. `shows_input`: whether messages quote
    invalid values, which may be secret. After `MAX_PROBLEMS` problems, the last one is how many
    more there are.
    """
    errors = tuple(errors)
    problems: list[SpecProblem] = []
    missing, suggested = set(), set()
    for item in errors[:MAX_PROBLEMS]:
        problem = _explain_error(item, document, root, shows_input=shows_input)
        problems.append(problem)
        if item["type"] == "missing":
            missing.add(problem.field)
        if item["type"] == "extra_forbidden":
            suggested.update(_SUGGESTED_FIELD.findall(problem.message))
    # A misspelled field is also missing under its right name: that is one problem, not two.
    named_twice = missing & suggested
    explained = tuple(p for p in problems if p.field not in named_twice)
    return (*explained, *count_further_problems(len(errors)))


def count_further_problems(num_errors: int) -> tuple[SpecProblem, ...]:
    """The problem that says how many of `num_errors` errors are not explained; empty if all are."""
    if num_errors <= MAX_PROBLEMS:
        return ()
    return (SpecProblem("", f"and {num_errors - MAX_PROBLEMS} more problems"),)


_SUGGESTED_FIELD = re.compile(r"did you mean ([\w.]+)\?$")


def _explain_error(
    item: Mapping[str, Any], document: Any, root: Any, *, shows_input: bool
) -> SpecProblem:
    kind, location = item["type"], item["loc"]
    field = _dotted_field(location, document, is_missing=kind == "missing")
    if kind == "extra_forbidden":
        return SpecProblem(field, _explain_unknown_field(field, location, root))
    if kind == "union_tag_not_found":
        name = str(item["ctx"]["discriminator"]).strip("'")
        tags = [variant.tag or "" for variant in _variants_of_union(root, location)]
        path = f"{field}.{name}" if field else name
        return SpecProblem(
            path, f"this field is required; it is one of {list_names(tags, conjunction='or')}"
        )
    if kind in _CHOICES:
        return _explain_choice(item, field, shows_input=shows_input)
    explain = _MESSAGES.get(kind)
    if explain is None:
        return SpecProblem(field, clean_message(item["msg"]))
    quote = "" if not shows_input or kind in _WITHOUT_INPUT else _quote(item.get("input"))
    return SpecProblem(field, explain(item.get("ctx") or {}) + quote)


def _explain_unknown_field(field: str, location: Location, root: Any) -> str:
    """Which variant has the field, or which field was probably meant, or else all fields."""
    root, location = split_root(root, location)
    *parent_keys, name = location
    variants = find_variants(root, parent_keys)
    siblings = tuple(dict.fromkeys(n for v in variants for n in v.model.model_fields))
    prefix = field.removesuffix(str(name))
    similarities = {f"{prefix}{item}": measure_similarity(str(name), item) for item in siblings}
    if reason := _explain_other_variant(str(name), variants):
        return reason
    if not pick_most_similar(similarities):
        similarities = _measure_distant_fields(field, str(name), root)
    if similar := pick_most_similar(similarities):
        return f"there is no such field; did you mean {join_with_or(similar)}?"
    if not siblings:
        return "there is no such field"
    owner = prefix.rstrip(".") or "the fields"
    verb = "are" if owner == "the fields" else "has"
    return f"there is no such field; {owner} {verb} {list_names(siblings)}"


def _explain_other_variant(name: str, variants: tuple[Variant, ...]) -> str | None:
    """Why a field is not allowed that another variant of a union has. None if none has it."""
    for variant in variants:
        owners = [other.tag or "" for other in variant.siblings if name in other.model.model_fields]
        if not owners:
            continue
        if variant.discriminator is None:
            return _explain_exclusive_field(name, variant)
        verb = "does" if len(owners) == 1 else "do"
        return (
            f"{variant.discriminator} {variant.tag} does not have this field; "
            f"{list_names(owners)} {verb}"
        )
    return None


def _explain_exclusive_field(name: str, variant: Variant) -> str:
    """Which field of its own variant excludes a field of another one; or, where both variants have
    that field, which field of the other variant is missing."""
    first = next(iter(variant.model.model_fields))
    for other in variant.siblings:
        if name in other.model.model_fields and first in other.model.model_fields:
            return f"has no effect without {next(iter(other.model.model_fields))}"
    return f"cannot be given together with {first}"


def _measure_distant_fields(field: str, name: str, root: Any) -> dict[str, float]:
    """Similarity of the last part of each dotted field of the root model to `name`."""
    if not isinstance(root, type):
        return {}
    return {
        path: _DISTANT ** path.count(".") * measure_similarity(name, path.rpartition(".")[2])
        for path in list_field_paths(root)
        if path != field and path.count(".") <= _MAX_DOTS
    }


def _variants_of_union(root: Any, location: Location) -> tuple[Variant, ...]:
    return find_variants(*split_root(root, location))


def _explain_choice(item: Mapping[str, Any], field: str, *, shows_input: bool) -> SpecProblem:
    """A value that is none of the allowed ones; with the ones that are similar to it."""
    context, value = item.get("ctx") or {}, item.get("input")
    choices = _CHOICES[item["type"]](context, item["msg"])
    if item["type"] in ("union_tag_invalid", "unknown_kind"):
        name = str(context.get("discriminator", "kind")).strip("'")
        value = value.get(name) if isinstance(value, Mapping) else None
        field = f"{field}.{name}" if field else name
    message = f"needs to be one of {list_names(choices, conjunction='or')}"
    if shows_input:
        message += _quote(value)
        if isinstance(value, str) and (question := ask_did_you_mean(value, choices)):
            message += f"; {question}"
    return SpecProblem(field, message)


def _split_quoted(text: str) -> list[str]:
    """The choices in pydantic's text, as in `'fp32', 'tf32' or 18`."""
    return [part.strip("'") for part in re.split(r", | or ", text)]


_CHOICES: dict[str, Callable[[Mapping[str, Any], str], list[str]]] = {
    "literal_error": lambda context, _: _split_quoted(context["expected"]),
    "enum": lambda context, _: _split_quoted(context["expected"]),
    "union_tag_invalid": lambda context, _: _split_quoted(context["expected_tags"]),
    "unknown_kind": lambda _, message: message.removeprefix("kind is one of ").split(", "),
}
"""Kinds of errors about a value from a fixed set, and the set."""


def _needs(text: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda context: f"needs {text.format(**context)}"


_MESSAGES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), _needs("a whole number")),
    **dict.fromkeys(("int_parsing_size",), _needs("a smaller number")),
    **dict.fromkeys(("float_type", "float_parsing"), _needs("a number")),
    **dict.fromkeys(("bool_type", "bool_parsing"), _needs("true or false")),
    **dict.fromkeys(("string_type", "string_unicode"), _needs("a text")),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), _needs("a list, as in [1, 2]")),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type"),
        _needs("fields, as in {{name: value}}"),
    ),
    "finite_number": _needs("a finite number"),
    "greater_than": _needs("more than {gt}"),
    "greater_than_equal": _needs("at least {ge}"),
    "less_than": _needs("less than {lt}"),
    "less_than_equal": _needs("at most {le}"),
    "multiple_of": _needs("a multiple of {multiple_of}"),
    "string_too_short": lambda context: (
        "must not be empty"
        if context["min_length"] == 1
        else f"needs at least {context['min_length']} characters"
    ),
    "string_too_long": _needs("at most {max_length} characters"),
    "string_pattern_mismatch": lambda context: (
        f"needs {_PATTERNS.get(context['pattern'], 'a text that matches ' + context['pattern'])}"
    ),
    "too_short": _needs("at least {min_length} items, has {actual_length}"),
    "too_long": _needs("at most {max_length} items"),
    "missing": lambda _: "this field is required",
}
"""What is wrong with a value, by pydantic's kind of error."""

_PATTERNS: dict[str, str] = {
    NAME_PATTERN: "a name of at most 63 lower-case letters, digits, '.', '_' and '-'",
    PRINTABLE_PATTERN: "a text without control characters",
    RUN_ID_PATTERN: "the whole id of a run, an r and 12 characters",
    SHA256_PATTERN: "a SHA-256, 64 hexadecimal digits",
}
"""What a text needs to be, by its pattern."""

_WITHOUT_INPUT = frozenset(
    {"missing", "too_short", "too_long", "string_too_short", "string_too_long"}
)


def _quote(value: Any) -> str:
    """`, got VALUE` for a short plain value; else empty."""
    if not isinstance(value, str | int | float | bool | None):
        return ""
    if value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    else:
        text = repr(value)
    return f", got {text}" if len(text) <= _MAX_INPUT else ""


def clean_message(text: str) -> str:
    """A message of pydantic or of one of our validators, without pydantic's introduction."""
    return text.removeprefix("Value error, ").replace("Input should", "should", 1)


def _dotted_field(location: Location, document: Any, *, is_missing: bool) -> str:
    """The path of `location` that exists in the document; other elements are tags of unions.

    Without a document, every element.
    """
    if document is None:
        return ".".join(str(key) for key in location)
    path: list[str] = []
    node = document
    for index, key in enumerate(location):
        is_missing_key = is_missing and index == len(location) - 1
        if isinstance(node, dict) and (key in node or is_missing_key):
            path.append(str(key))
            node = node.get(key)
        elif isinstance(node, list | tuple) and isinstance(key, int):
            path.append(str(key))
            node = node[key] if key < len(node) else None
    return ".".join(path)
