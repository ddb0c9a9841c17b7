"""Requests and responses of projects, tokens and the audit log."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from configs.spec.base import PRINTABLE_PATTERN, Contract, Name, UtcDatetime
from service.api.schemas.base import Priority, RequestModel
from service.domain.vocabulary import Role


class ProjectRequest(RequestModel):
    """The share of the cluster that a project's runs may use; None for no limit."""

    weight: Annotated[float, Field(gt=0, le=1000, strict=True)] = 1.0
    max_runs: Annotated[int | None, Field(ge=0, lt=2**31, strict=True)] = None
    max_gpus: Annotated[int | None, Field(ge=0, lt=2**31, strict=True)] = None
    max_priority: Priority = 0
    """The largest priority that runners may give its runs; an admin may give any."""


class TokenRequest(RequestModel):
    """A token to create."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=PRINTABLE_PATTERN)]
    role: Role = Role.RUNNER
    project: Name | None = None
    """The only project that the token gives access to. None for all projects."""

    expires_at: UtcDatetime | None = None


class AuditQuery(Contract):
    """Cursor pagination of the audit log."""

    cursor: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    """`next_cursor` of the previous page. None for the first page."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class ProjectView(Contract):
    """Limits and weight of a project."""

    name: str
    weight: float
    max_runs: int | None
    max_gpus: int | None
    max_priority: int
    """The largest priority that runners may give its runs."""


class TokenView(Contract):
    """A token without its secret text."""

    id: str
    name: str
    role: Role
    project: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class TokenPage(Contract):
    """Tokens, newest first. `next_cursor` is None on the last page."""

    items: list[TokenView]
    next_cursor: str | None


class NewTokenView(Contract):
    """A token that was just created, and its text, which is shown only here."""

    token: TokenView
    text: str


class AuditView(Contract):
    """A write request and its outcome."""

    id: int
    at: datetime
    actor: str
    method: str
    path: str
    status: int
    request_id: str
    address: str
    run_id: str | None
    token_id: str | None


class AuditPage(Contract):
    """Audit entries, newest first. `next_cursor` is None on the last page."""

    items: list[AuditView]
    next_cursor: int | None
