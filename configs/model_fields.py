"""The fields that a document may have at a location, found by the annotations of its models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag

Model = type[BaseModel]
Location = Sequence[int | str]
"""A location as in `ValidationError.errors()`: keys, indices, and tags of unions."""

_MAX_DEPTH = 6


@dataclass(frozen=True)
class Variant:
    """A model at a location, and the other models of its union."""

    model: Model
    tag: str | None = None
    """Its tag in a discriminated union. None outside of such a union."""

    siblings: tuple["Variant", ...] = ()

    @property
    def discriminator(self) -> str | None:
        """The field whose value is the tag. None if no field has it."""
        for name, field in self.model.model_fields.items():
            if get_origin(field.annotation) is Literal and get_args(field.annotation) == (
                self.tag,
            ):
                return name
        return None


def find_variants(root: Any, location: Location) -> tuple[Variant, ...]:
    """The models that may be at a location below the annotation `root`; empty if none is."""
    return tuple(_walk(root, tuple(location)))


def split_root(root: Any, location: Location) -> tuple[Any, Location]:
    """The member of a union that the first tag of the location chooses, and the other keys."""
    if location:
        for member in _members_of(root):
            if member.tag is not None and member.tag == location[0]:
                return member.model, location[1:]
    return root, location


@cache
def list_field_paths(model: Model) -> tuple[str, ...]:
    """The dotted paths of all fields below a model, over all members of unions."""
    return tuple(dict.fromkeys(_iter_paths(model, depth=0)))


def _walk(annotation: Any, keys: tuple[int | str, ...]) -> Iterator[Variant]:
    members = _members_of(annotation)
    if not keys:
        yield from (_with_siblings(member, members) for member in members)
        return
    tagged = [member for member in members if member.tag == keys[0]]
    for member in tagged:
        if len(keys) == 1:
            yield _with_siblings(member, members)
        else:
            yield from _walk_field(member.model, keys[1:])
    if tagged:
        return
    for member in members:
        yield from _walk_field(member.model, keys)
    for container in _containers_of(annotation):
        yield from _walk(container, keys[1:])


def _walk_field(model: Model, keys: tuple[int | str, ...]) -> Iterator[Variant]:
    field = model.model_fields.get(str(keys[0]))
    if field is not None:
        yield from _walk(field.annotation, keys[1:])


def _with_siblings(member: Variant, members: tuple[Variant, ...]) -> Variant:
    return replace(member, siblings=tuple(other for other in members if other is not member))


def _members_of(annotation: Any, tag: str | None = None) -> tuple[Variant, ...]:
    """The models of an annotation: itself, or the members of a union; with their tags."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        tags = [item.tag for item in metadata if isinstance(item, Tag)]
        return _members_of(inner, tags[0] if tags else tag)
    if origin in (Union, UnionType):
        return tuple(
            member for item in get_args(annotation) for member in _members_of(item, tag=None)
        )
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (Variant(annotation, tag or _find_literal_tag(annotation)),)
    return ()


def _find_literal_tag(model: Model) -> str | None:
    """The value of a field that can have this value only, as `method` of a distillation method."""
    for field in model.model_fields.values():
        values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if len(values) == 1:
            return str(values[0])
    return None


def _containers_of(annotation: Any) -> Iterator[Any]:
    """The annotations of the items of dictionaries, lists and tuples."""
    origin = get_origin(annotation)
    if origin in (Annotated, Union, UnionType):
        for item in get_args(annotation):
            yield from _containers_of(item)
    elif origin is dict:
        yield get_args(annotation)[1]
    elif origin in (list, tuple):
        yield from (item for item in get_args(annotation) if item is not Ellipsis)


def _iter_paths(annotation: Any, *, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        return
    for member in _members_of(annotation):
        for name, field in member.model.model_fields.items():
            yield name
            for path in _iter_paths(field.annotation, depth=depth + 1):
                yield f"{name}.{path}"
