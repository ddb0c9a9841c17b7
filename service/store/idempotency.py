"""Idempotency keys in the database."""

from sqlalchemy.orm import Session

from service.domain.repositories.idempotency import IdempotencyKey
from service.store.tables import IdempotencyKeyRow
from service.store.writers.locks import AdvisoryLock, acquire


class SqlIdempotencyKeys:
    """Implements `IdempotencyKeys`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock(self) -> None:
        acquire(AdvisoryLock.IDEMPOTENCY_KEYS, self._session.connection())

    def find(self, key: str) -> IdempotencyKey | None:
        row = self._session.get(IdempotencyKeyRow, key)
        return None if row is None else IdempotencyKey(row.key, row.request_digest, row.resource_id)

    def add(self, entry: IdempotencyKey) -> None:
        self._session.add(
            IdempotencyKeyRow(
                key=entry.key, request_digest=entry.request_digest, resource_id=entry.resource_id
            )
        )
        self._session.flush()
