"""Measured values, and how long a step takes."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, event


@dataclass(frozen=True)
class Measurement:
    """A value of one row of the table."""

    row: str
    value: float
    unit: str


@dataclass
class WrittenRows:
    """Rows that statements have inserted, changed or deleted, by table."""

    by_table: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.by_table.values())


def measure_ms(step: Callable[[], object], *, repeats: int) -> float:
    """The shortest of several durations in milliseconds, after one call that fills caches.

    Other work on the machine makes a duration longer, and never shorter.
    """
    step()
    durations = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        step()
        durations.append((time.perf_counter() - start_s) * 1000.0)
    return min(durations)


def time_once_ms(step: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    step()
    return (time.perf_counter() - start_s) * 1000.0


def forget_garbage() -> None:
    """Exempt all objects of this process from garbage collection, before it sends requests.

    What it has measured before leaves millions of objects, and looking through them would delay the
    answers that it waits for.
    """
    gc.collect()
    gc.freeze()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as a share of all."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class RowCounter:
    """Counts the rows that all engines of this process write, while it is open."""

    def __init__(self) -> None:
        self.written = WrittenRows({})

    def __enter__(self) -> WrittenRows:
        event.listen(Engine, "after_cursor_execute", self._count)
        return self.written

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "after_cursor_execute", self._count)

    def _count(
        self,
        _connection: object,
        cursor: object,
        statement: str,
        _parameters: object,
        _context: object,
        _is_many: bool,
    ) -> None:
        verb, *tokens = statement.split(maxsplit=3)
        if verb in ("INSERT", "UPDATE", "DELETE"):
            table = tokens[0] if verb == "UPDATE" else tokens[1]
            rows = max(0, int(getattr(cursor, "rowcount", 0)))
            self.written.by_table[table] = self.written.by_table.get(table, 0) + rows


def describe_ratio(values: Mapping[int, float]) -> str:
    """The value with the longest history relative to that with the shortest."""
    first, last = values[min(values)], values[max(values)]
    return f"{last / first:.2f}" if len(values) > 1 and first > 0 else ""
