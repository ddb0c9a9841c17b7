"""Idempotency keys: digests of requests, the scope of a key, and what a key launched."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.domain.access import Caller
from service.domain.errors.conflicts import IdempotencyKeyReused
from service.domain.repositories.idempotency import IdempotencyKey
from service.domain.repositories.unit_of_work import UnitOfWork
from service.usecases.context import Context

Launched = TypeVar("Launched")


@dataclass(frozen=True)
class IdempotentLaunch(Generic[Launched]):
    """A launch that equal requests with one key make only once.

    Without a key every method does nothing. The methods that look for an earlier launch raise
    `IdempotencyKeyReused` if another request used the key.
    """

    key: str | None
    digest: str
    """The `request_digest` of the request."""

    caller: Caller
    get: Callable[[UnitOfWork, str], Launched]
    """Reads what was launched by its id."""

    def find_earlier(self, *, ctx: Context) -> Launched | None:
        """What an equal request launched, in a transaction of its own: call it before slow steps.
        None if the key is unused."""
        if self.key is None:
            return None
        with ctx.store.snapshot() as uow:
            return self._find(uow, self.key)

    def lock_and_find_earlier(self, uow: UnitOfWork) -> Launched | None:
        """As `find_earlier`, in the transaction that launches: no other one uses the key before
        its end."""
        if self.key is None:
            return None
        uow.idempotency_keys.lock()
        return self._find(uow, self.key)

    def bind(self, uow: UnitOfWork, resource_id: str) -> None:
        """Bind the key to what the request launched, after `lock_and_find_earlier`."""
        if self.key is not None:
            scoped_key = _scope_key(self.key, caller=self.caller)
            uow.idempotency_keys.add(IdempotencyKey(scoped_key, self.digest, resource_id))

    def _find(self, uow: UnitOfWork, key: str) -> Launched | None:
        entry = uow.idempotency_keys.find(_scope_key(key, caller=self.caller))
        if entry is None:
            return None
        if entry.request_digest != self.digest:
            raise IdempotencyKeyReused(key)
        return self.get(uow, entry.resource_id)


def request_digest(body: bytes) -> str:
    """SHA-256 of a request's body: a key may be reused only with an equal request."""
    return hashlib.sha256(body).hexdigest()


def _scope_key(key: str, *, caller: Caller) -> str:
    """The stored form of a key: each project has its own keys, so that no caller receives a run of
    another project."""
    if caller.project is None:
        return key
    return f"{caller.project}:{hashlib.sha256(key.encode()).hexdigest()}"
