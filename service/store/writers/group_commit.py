"""Short writes of several threads in one transaction, so that they share its commit."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any, TypeVar, cast

from service.domain.errors.systems import DatabaseUnreachable
from service.domain.repositories.unit_of_work import UnitOfWork

_MAX_WRITES = 32
"""The writes of one transaction; others wait for the next one."""

Written = TypeVar("Written")


@dataclass(eq=False)
class _PendingWrite:
    """The write of a thread that waits for its commit."""

    write: Callable[[UnitOfWork], Any]
    is_next: Event = field(default_factory=Event)
    """Set when it is committed, has failed, or when its thread has to commit the next writes."""

    result: Future[Any] = field(default_factory=Future)


class GroupCommit:
    """Commits the writes that arrive during a commit together with the next one.

    The first thread commits its own write. Those that arrive meanwhile wait; when it is done, the
    first of them commits the writes of all.
    """

    def __init__(self, transaction: Callable[[], AbstractContextManager[UnitOfWork]]) -> None:
        self._transaction = transaction
        self._mutex = Lock()
        self._pending: list[_PendingWrite] = []
        self._is_committing = False

    def run(self, write: Callable[[UnitOfWork], Written]) -> Written:
        """The result of `write` after its commit; raises its error, or that of the commit."""
        pending = _PendingWrite(write)
        with self._mutex:
            self._pending.append(pending)
            must_wait, self._is_committing = self._is_committing, True
        if must_wait:
            pending.is_next.wait()
        if not pending.result.done():
            self._commit_next()
        return cast("Written", pending.result.result())

    def _commit_next(self) -> None:
        with self._mutex:
            writes = self._pending[:_MAX_WRITES]
            del self._pending[:_MAX_WRITES]
        try:
            self._commit(writes)
        finally:
            with self._mutex:
                successor = self._pending[0] if self._pending else None
                self._is_committing = successor is not None
            if successor is not None:
                successor.is_next.set()
            for pending in writes:
                if not pending.result.done():
                    pending.result.set_exception(RuntimeError("The commit was interrupted."))
                pending.is_next.set()

    def _commit(self, writes: list[_PendingWrite]) -> None:
        """Commit all writes at once, or each by itself if one of them raises an error."""
        try:
            with self._transaction() as uow:
                results = [pending.write(uow) for pending in writes]
        except DatabaseUnreachable as error:
            # Not again: a commit whose connection was lost may have succeeded.
            for pending in writes:
                pending.result.set_exception(DatabaseUnreachable(str(error)))
        except Exception as error:
            if len(writes) == 1:
                writes[0].result.set_exception(error)
                return
            for pending in writes:
                self._commit([pending])
        else:
            for pending, result in zip(writes, results, strict=True):
                pending.result.set_result(result)
