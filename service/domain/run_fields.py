"""A run as one flat record, which is the shape of its row in the database and of its view."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from service.domain.runs import Run

_RENAMED = {
    "pack.size": "pack_size",
    "pack.job": "pack_job",
}
"""Fields of a group that have another name in the record."""

_GROUPS: dict[str, type[Any]] = {
    name: hint
    for name, hint in get_type_hints(Run).items()
    if isinstance(hint, type) and is_dataclass(hint)
}
_NAMES = {
    group: {field.name: _RENAMED.get(f"{group}.{field.name}", field.name) for field in fields(cls)}
    for group, cls in _GROUPS.items()
}
_UNGROUPED = [field.name for field in fields(Run) if field.name not in _GROUPS]

RUN_FIELDS = (*_UNGROUPED, *(name for names in _NAMES.values() for name in names.values()))
"""The names of the record's values."""


def _list_arguments() -> Iterator[tuple[type[Any] | None, slice]]:
    """For each field of a run: the class of its group, or None, and its values in `RUN_FIELDS`."""
    first = len(_UNGROUPED)
    for item in fields(Run):
        if item.name in _GROUPS:
            yield _GROUPS[item.name], slice(first, first + len(_NAMES[item.name]))
            first += len(_NAMES[item.name])
        else:
            index = _UNGROUPED.index(item.name)
            yield None, slice(index, index + 1)


_ARGUMENTS = tuple(_list_arguments())


def flatten_run(run: Run) -> dict[str, Any]:
    """The values of a run by `RUN_FIELDS`."""
    record = {name: getattr(run, name) for name in _UNGROUPED}
    for group, names in _NAMES.items():
        values = vars(getattr(run, group))
        record |= {names[name]: value for name, value in values.items()}
    return record


def build_run(record: Mapping[str, Any]) -> Run:
    """The run with these values; those that the record lacks have their defaults."""
    ungrouped = dict(record)
    groups = {
        group: _GROUPS[group](
            **{name: ungrouped.pop(key) for name, key in names.items() if key in ungrouped}
        )
        for group, names in _NAMES.items()
    }
    return Run(**ungrouped, **groups)


def build_run_from_values(values: Sequence[Any]) -> Run:
    """The run with all values in the order of `RUN_FIELDS`, as the database has them: loops read
    thousands in a turn."""
    return Run(
        *[
            values[part.start] if group is None else group(*values[part])
            for group, part in _ARGUMENTS
        ]
    )
