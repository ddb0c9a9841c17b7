"""Interfaces of stored projects, tokens and audit entries."""

from datetime import datetime
from typing import Protocol

from service.domain.access import AuditEntry, Token
from service.domain.scheduling.projects import Project


class Projects(Protocol):
    """How much of the cluster each project's runs may take."""

    def all(self) -> list[Project]:
        """Those that somebody set, by name."""

    def get(self, name: str) -> Project:
        """One project; as `Project` says if nobody set it."""

    def put(self, project: Project) -> None:
        """Add or replace."""


class Tokens(Protocol):
    """Who has access."""

    def get(self, token_id: str) -> Token | None:
        """The token with this id."""

    def all(self) -> list[Token]:
        """The newest first."""

    def put(self, token: Token) -> None:
        """Add or replace."""

    def record_use(self, token_id: str, *, at: datetime) -> None:
        """Write down when it was shown."""


class AuditLog(Protocol):
    """Requests that were to change something, append-only."""

    def add(self, entry: AuditEntry) -> None:
        """Append."""

    def page(self, *, before: int | None, limit: int) -> list[AuditEntry]:
        """The newest first."""
