"""The queue of the threads that want to write to a database with one writer at a time."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.errors.systems import DatabaseUnreachable


class WriterQueue:
    """Gives one thread at a time its turn, in the order in which they asked.

    SQLite itself wakes its waiting writers in no order, so under load some of them would wait until
    they time out.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._owner: int | None = None
        """The thread whose turn it is; None if it is nobody's."""

    @contextmanager
    def turn(self, *, timeout_s: float) -> Iterator[None]:
        """Wait for the turn of the calling thread, which lasts as long as the context.

        Raises `DatabaseUnreachable` after `timeout_s`, and `RuntimeError` in a thread whose turn it
        is already, which would wait for itself.
        """
        self._wait(timeout_s)
        self._owner = threading.get_ident()
        try:
            yield
        finally:
            self._pass_on()

    def _wait(self, timeout_s: float) -> None:
        with self._mutex:
            if self._owner is None and not self._waiting:
                self._owner = threading.get_ident()
                return
            if self._owner == threading.get_ident():
                raise RuntimeError("A transaction was opened within another one of its thread.")
            has_turn = threading.Event()
            self._waiting.append(has_turn)
        if has_turn.wait(timeout_s):
            return
        with self._mutex:
            if has_turn.is_set():  # in the last moment
                return
            self._waiting.remove(has_turn)
        raise DatabaseUnreachable(
            f"Another transaction locks the database: {timeout_s:g} s in its queue were not "
            "enough. Nothing was changed."
        )

    def _pass_on(self) -> None:
        with self._mutex:
            self._owner = None
            if self._waiting:
                self._owner = _NEXT
                self._waiting.popleft().set()


_NEXT = 0
"""Stands for a thread that has its turn but does not run yet."""
