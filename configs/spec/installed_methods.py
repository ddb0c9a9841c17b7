"""Distillation methods of other packages, whose fields only the workers know."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from configs.spec.base import OMIT_IF_NONE, Contract, Sha256

METHOD_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"

Need = Literal["features", "positions", "edges", "towers"]
"""What a method reads of both detectors: feature maps; predictions at the same positions, one by
one; edges as distributions over the same bins; towers of the same kind of head."""


_MAX_FIELDS_DEPTH = 4
_MAX_FIELDS_BYTES = 10_000


def _check_size(fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(json.dumps(fields)) > _MAX_FIELDS_BYTES:
        raise ValueError(f"all fields of a method together have at most {_MAX_FIELDS_BYTES} bytes")
    if _depth(fields) > _MAX_FIELDS_DEPTH:
        raise ValueError(f"fields of a method are nested at most {_MAX_FIELDS_DEPTH} deep")
    return fields


def _depth(value: JsonValue) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(_depth, inner), default=0) if isinstance(inner, list) else 0


MethodFields = Annotated[
    dict[str, JsonValue],
    Field(max_length=64, default_factory=dict),
    AfterValidator(_check_size),
]
"""Fields of a method, which only its own package can check; small, whoever sends them."""


class MethodRelease(Contract):
    """The code of an installed method; equal releases compute equal numbers."""

    version: Annotated[str, Field(max_length=64)]
    digest: Sha256
    needs: tuple[Need, ...]
    needs_labels: Annotated[bool, Field(exclude_if=lambda is_needed: is_needed)] = True
    """As in `MethodTraits`; left out where it is true, as in releases of earlier versions."""

    def has_same_code(self, other: Self) -> bool:
        """Whether both compute the same; what else they say follows from the code."""
        return (self.version, self.digest) == (other.version, other.digest)


class InstalledMethod(Contract):
    """A method of another package, which is installed where the workers run."""

    method: Literal["installed"] = "installed"
    name: Annotated[str, Field(pattern=METHOD_NAME_PATTERN)]
    fields: MethodFields
    """Its own fields, as `tandem methods show NAME` lists them."""

    release: Annotated[MethodRelease | None, OMIT_IF_NONE] = None
    """What the service records at the launch. A worker with another release refuses the run."""


def _name_by_key(methods: Any) -> Any:
    if not isinstance(methods, Mapping):
        return methods
    return {
        key: {"name": key, **method} if isinstance(method, Mapping) else method
        for key, method in methods.items()
    }


def _check_keys(methods: dict[str, InstalledMethod]) -> dict[str, InstalledMethod]:
    for key, method in methods.items():
        if method.name != key:
            raise ValueError(f"{key}.name is {method.name}; a method's key is its name")
    return methods


ExtraInstalledMethods = Annotated[
    dict[str, InstalledMethod],
    Field(min_length=1, max_length=8),
    BeforeValidator(_name_by_key),
    AfterValidator(_check_keys),
]
"""Methods of other packages by name, which need not be repeated in them."""
