"""Counts operations of SQLite's virtual machine: a measure of a query's cost without a clock."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import event
from sqlalchemy.pool import Pool


@dataclass
class OperationCounter:
    """How many operations have been counted so far."""

    operations: int = 0

    def count(self) -> int:
        """As SQLite's progress handler, which stops a query by another value than 0."""
        self.operations += 1
        return 0


@contextmanager
def count_operations() -> Iterator[OperationCounter]:
    """Count the operations on all connections that are opened in the meantime."""
    counter = OperationCounter()

    def watch(connection: object, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_progress_handler(counter.count, 1)

    event.listen(Pool, "connect", watch)
    try:
        yield counter
    finally:
        event.remove(Pool, "connect", watch)
