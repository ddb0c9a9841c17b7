"""Stores the audit entry of a request together with what the request changes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TypeVar

from service.domain.access import AuditEntry, HasOutcome, NewEntryId, RequestOutcome
from service.domain.repositories.unit_of_work import Store, UnitOfWork
from service.usecases.context import Context

Written = TypeVar("Written")

STATUS_UNKNOWN = 102
"""The status of a request that is being processed, or whose service ended before it answered."""


class AuditTrail:
    """The audit entry of one request, which is stored once."""

    def __init__(self, make_entry: Callable[[], AuditEntry]) -> None:
        """`make_entry` is called when the entry is stored: by then the caller is known."""
        self._make_entry = make_entry
        self._entry_id: NewEntryId | None = None
        self._stored: RequestOutcome | None = None

    @contextmanager
    def transaction(self, store: Store) -> Iterator[UnitOfWork]:
        """A transaction of `store` that stores the entry too, unless an earlier one did.

        If the entry cannot be stored, nothing of the transaction is.
        """
        entry_id = self._entry_id
        with store.transaction() as uow:
            if entry_id is None:
                entry_id = uow.audit.add(replace(self._make_entry(), status=STATUS_UNKNOWN))
            yield uow
        self._entry_id = entry_id

    def write_together(self, store: Store, write: Callable[[UnitOfWork], Written]) -> Written:
        """`Store.write_together` that stores the entry too, unless an earlier transaction did.

        If what `write` returns knows the outcome of the request, the entry has it already, and
        needs no second transaction.
        """
        if self._entry_id is not None:
            return store.write_together(write)

        def write_with_entry(uow: UnitOfWork) -> tuple[NewEntryId, RequestOutcome, Written]:
            written, entry = write(uow), self._make_entry()
            outcome = (
                written.outcome
                if isinstance(written, HasOutcome)
                else RequestOutcome(STATUS_UNKNOWN, entry.run_id)
            )
            return uow.audit.add(replace(entry, **vars(outcome))), outcome, written

        self._entry_id, self._stored, written = store.write_together(write_with_entry)
        return written

    def complete(self, status: int, *, run_id: str | None, ctx: Context) -> None:
        """Store the response's status and the launched run; and the entry, if nothing did."""

        def write(uow: UnitOfWork) -> None:
            if self._entry_id is not None:
                uow.audit.complete(self._entry_id, status=status, run_id=run_id)
            else:
                uow.audit.add(replace(self._make_entry(), status=status, run_id=run_id))

        ctx.store.write_together(write)

    def is_complete(self, status: int, *, run_id: str | None) -> bool:
        """Whether the stored entry has this status and run already."""
        return self._stored == RequestOutcome(status, run_id)


class AuditedStore:
    """A store for one request: implements `Store`, and stores the request's audit entry in the
    first transaction."""

    def __init__(self, store: Store, trail: AuditTrail) -> None:
        self._store = store
        self._trail = trail

    @contextmanager
    def transaction(self) -> Iterator[UnitOfWork]:
        with self._trail.transaction(self._store) as uow:
            yield uow

    def snapshot(self) -> AbstractContextManager[UnitOfWork]:
        return self._store.snapshot()

    def write_together(self, write: Callable[[UnitOfWork], Written]) -> Written:
        return self._trail.write_together(self._store, write)

    def migrate(self) -> None:
        self._store.migrate()
