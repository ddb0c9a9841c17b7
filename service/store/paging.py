"""Conditions and orders of pages of rows."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Select, and_
from sqlalchemy.orm import InstrumentedAttribute

from service.store.engine import replace_nul
from service.store.tables import SweepRow

ItemT = TypeVar("ItemT")

BATCH_SIZE: Final = 500
"""The most values of an `IN`; SQLite allows some thousand parameters in a statement."""


def batched(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """Lists of at most `size` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def newest_first(query: Select[Any], *, id_prefix: str | None) -> Select[Any]:
    """Order sweeps by their sequence, newest first; with a prefix, only those whose id has it."""
    if id_prefix is None:
        return query.order_by(SweepRow.sequence.desc())
    # Few rows match. Without "+ 0" the database may walk the index of the sequence to find them.
    has_prefix = id_starts_with(SweepRow.id, id_prefix)
    return query.where(has_prefix).order_by((SweepRow.sequence + 0).desc())


def id_starts_with(column: InstrumentedAttribute[str], prefix: str) -> ColumnElement[bool]:
    """Whether an id starts with `prefix`.

    The range is for the index of the primary key, which `LIKE` alone cannot use on PostgreSQL; ids
    are lower-case letters and digits, so every collation puts "z" last.
    """
    text = replace_nul(prefix)
    return and_(column >= text, column <= text + "z" * 16, column.startswith(text, autoescape=True))
