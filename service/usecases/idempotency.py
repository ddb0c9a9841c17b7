"""Idempotency keys: digests of requests, the scope of a key, and what a key launched."""

import hashlib

from service.domain.access import Caller
from service.domain.errors import IdempotencyKeyReused
from service.domain.repositories.idempotency import IdempotencyKey
from service.domain.repositories.unit_of_work import UnitOfWork


def request_digest(body: bytes) -> str:
    """SHA-256 of a request's body: a key may be reused only with an equal request."""
    return hashlib.sha256(body).hexdigest()


def scope_key(key: str, *, caller: Caller) -> str:
    """The stored form of a key: each project has its own keys, so that no caller receives a run of
    another project."""
    if caller.project is None:
        return key
    return f"{caller.project}:{hashlib.sha256(key.encode()).hexdigest()}"


def find_launched(uow: UnitOfWork, key: str, *, digest: str, caller: Caller) -> str | None:
    """The id of what an equal request with this key launched; `None` if the key is unused.

    Raises `IdempotencyKeyReused` if another request used the key.
    """
    entry = uow.idempotency_keys.find(scope_key(key, caller=caller))
    if entry is None:
        return None
    if entry.request_digest != digest:
        raise IdempotencyKeyReused(key)
    return entry.resource_id


def bind_key(uow: UnitOfWork, key: str, *, digest: str, caller: Caller, resource_id: str) -> None:
    """Bind an unused key to what its request launched."""
    scoped = scope_key(key, caller=caller)
    uow.idempotency_keys.add(IdempotencyKey(scoped, digest, resource_id))
