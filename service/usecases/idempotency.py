"""Idempotency keys: the digest of a request, and who used a key before."""

import hashlib

from service.domain.access import Caller


def request_digest(body: bytes) -> str:
    """What tells one request from another."""
    return hashlib.sha256(body).hexdigest()


def scope_key(key: str, *, caller: Caller) -> str:
    """Every project has keys of its own: else one would be answered with a run of another."""
    if caller.project is None:
        return key
    return f"{caller.project}:{hashlib.sha256(key.encode()).hexdigest()}"
