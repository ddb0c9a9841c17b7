"""Repository of idempotency keys."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class IdempotencyKey:
    """A key of a request, and the run or sweep that the request launched."""

    key: str
    request_digest: str
    resource_id: str


class IdempotencyKeys(Protocol):
    """Stores the idempotency keys of launches, of runs and sweeps alike."""

    def lock(self) -> None:
        """Keep other transactions from adding keys until this one ends."""

    def find(self, key: str) -> IdempotencyKey | None:
        """The entry of a key; None if it is unused."""

    def add(self, entry: IdempotencyKey) -> None:
        """Store the entry of an unused key after `lock`."""
