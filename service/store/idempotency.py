"""Idempotency keys in the database."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.domain.repositories.idempotency import IdempotencyKey
from service.store.tables import IdempotencyKeyRow

_INSERT_LOCK = 7_410_003
"""The PostgreSQL advisory lock of transactions that add keys."""


class SqlIdempotencyKeys:
    """Implements `IdempotencyKeys`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock(self) -> None:
        if self._session.get_bind().dialect.name == "postgresql":
            self._session.execute(select(func.pg_advisory_xact_lock(_INSERT_LOCK)))

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
