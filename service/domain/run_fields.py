"""A run as one flat record, which is the shape of its row in the database and of its view."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from operator import itemgetter
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


_READ_UNGROUPED = itemgetter(*_UNGROUPED)
_READ_GROUPS = {group: itemgetter(*names.values()) for group, names in _NAMES.items()}
"""The values of a group in the order of its fields. Each has several."""


def flatten_run(run: Run) -> dict[str, Any]:
    """The values of a run by `RUN_FIELDS`."""
    record = {name: getattr(run, name) for name in _UNGROUPED}
    for group, names in _NAMES.items():
        values = vars(getattr(run, group))
        record |= {names[name]: value for name, value in values.items()}
    return record


def build_run(record: Mapping[str, Any]) -> Run:
    """The run with these values; those that the record lacks have their defaults."""
    if len(record) == len(RUN_FIELDS):
        # As the database has them, thousands in a turn of a loop.
        groups = {group: _GROUPS[group](*read(record)) for group, read in _READ_GROUPS.items()}
        return Run(**dict(zip(_UNGROUPED, _READ_UNGROUPED(record), strict=True)), **groups)
    ungrouped = dict(record)
    groups = {
        group: _GROUPS[group](
            **{name: ungrouped.pop(key) for name, key in names.items() if key in ungrouped}
        )
        for group, names in _NAMES.items()
    }
    return Run(**ungrouped, **groups)
