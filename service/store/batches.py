"""Lists of values for one statement."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

ItemT = TypeVar("ItemT")

BATCH_SIZE: Final = 500
"""The most values of an `IN`; SQLite allows some thousand parameters in a statement."""


def batched(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """Lists of at most `size` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
