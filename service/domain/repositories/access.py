"""Repositories of projects, tokens and audit entries."""

from datetime import datetime
from typing import Protocol

from service.domain.access import AuditEntry, NewEntryId, Token
from service.domain.scheduling.projects import Project


class Projects(Protocol):
    """Stores the projects that differ from the defaults of `Project`."""

    def all(self) -> list[Project]:
        """The stored projects, by name."""

    def get(self, name: str) -> Project:
        """The project, with the defaults of `Project` if it is not stored."""

    def put(self, project: Project) -> None:
        """Add or replace a project."""


class Tokens(Protocol):
    """Stores access tokens; they are revoked, but never deleted."""

    def get(self, token_id: str) -> Token | None:
        """The token, or None if there is none with this id."""

    def all(self) -> list[Token]:
        """All tokens, newest first."""

    def page(self, *, after: Token | None, limit: int) -> list[Token]:
        """Up to `limit` tokens, newest first; only those behind the token `after`."""

    def put(self, token: Token) -> None:
        """Add or replace a token."""

    def record_use(self, token_id: str, *, at: datetime) -> None:
        """Set `last_used_at` and nothing else: the token may be revoked at the same time."""


class AuditLog(Protocol):
    """Stores audit entries; none is changed after its request is answered."""

    def add(self, entry: AuditEntry) -> NewEntryId:
        """Add an entry. The store may insert it with others, at the latest with the commit."""

    def complete(self, entry_id: NewEntryId, *, status: int, run_id: str | None) -> None:
        """Set the status of the response, and the run that the request changed or launched."""

    def page(self, *, before: int | None, limit: int) -> list[AuditEntry]:
        """Up to `limit` entries, newest first; only those older than the entry `before`."""
