"""Tokens and audit entries in the database."""

from dataclasses import fields
from datetime import datetime

from sqlalchemy import and_, bindparam, or_, select, update
from sqlalchemy.orm import Session

from service.domain.access import AuditEntry, NewEntryId, Token
from service.domain.vocabulary import Role
from service.store.tables import AuditRow, TokenRow, get_table
from service.store.writers.new_rows import BatchingSession, BulkInsert

_AUDIT = get_table(AuditRow)
_ENTRY_COLUMNS = [field.name for field in fields(AuditEntry) if field.name != "id"]
_ADD_ENTRIES = BulkInsert(AuditRow, _ENTRY_COLUMNS, returns_id=True)
_COMPLETE_ENTRY = update(_AUDIT).where(_AUDIT.c.id == bindparam("entry_id"))
"""Both run with every change, and the session's own way takes three times as long."""


class SqlTokens:
    """Implements `Tokens`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, token_id: str) -> Token | None:
        row = self._session.get(TokenRow, token_id)
        return None if row is None else _token_from_row(row)

    def all(self) -> list[Token]:
        query = select(TokenRow).order_by(TokenRow.created_at.desc(), TokenRow.id)
        return [_token_from_row(row) for row in self._session.scalars(query)]

    def page(self, *, after: Token | None, limit: int) -> list[Token]:
        row = TokenRow
        query = select(row).order_by(row.created_at.desc(), row.id).limit(limit)
        if after is not None:
            is_as_old = and_(row.created_at == after.created_at, row.id > after.id)
            query = query.where(or_(row.created_at < after.created_at, is_as_old))
        return [_token_from_row(item) for item in self._session.scalars(query)]

    def put(self, token: Token) -> None:
        self._session.merge(TokenRow(**vars(token)))
        self._session.flush()

    def record_use(self, token_id: str, *, at: datetime) -> None:
        statement = update(TokenRow).where(TokenRow.id == token_id)
        self._session.execute(statement.values(last_used_at=at))


class SqlAuditLog:
    """Implements `AuditLog`."""

    def __init__(self, session: BatchingSession) -> None:
        self._session = session

    def add(self, entry: AuditEntry) -> NewEntryId:
        row = {name: getattr(entry, name) for name in _ENTRY_COLUMNS}
        return self._session.insert_for_id(_ADD_ENTRIES, row)

    def complete(self, entry_id: NewEntryId, *, status: int, run_id: str | None) -> None:
        connection = self._session.connection()  # the entry is inserted now, so it has its id
        values = {"entry_id": entry_id.value, "status": status, "run_id": run_id}
        connection.execute(_COMPLETE_ENTRY, values)

    def page(self, *, before: int | None, limit: int) -> list[AuditEntry]:
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.id < before)
        return [_entry_from_row(row) for row in self._session.scalars(query)]


def _token_from_row(row: TokenRow) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        project=row.project,
        digest=row.digest,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _entry_from_row(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        at=row.at,
        actor=row.actor,
        method=row.method,
        path=row.path,
        status=row.status,
        request_id=row.request_id,
        address=row.address,
        run_id=row.run_id,
        token_id=row.token_id,
        id=row.id,
    )
