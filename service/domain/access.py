"""Callers, their roles and tokens; no I/O."""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from service.domain.ids import is_sweep_id
from service.domain.vocabulary import Role


@dataclass(frozen=True)
class Caller:
    """Who sends a request."""

    name: str
    role: Role
    project: str | None = None
    """The only project that it may access; None if all."""

    token_id: str | None = None

    def has_role(self, required: Role) -> bool:
        """Whether the caller may do what requires a role.

        What an admin does affects all projects, so an admin of one project does not have the role.
        """
        return self.role.includes(required) and (required is not Role.ADMIN or self.project is None)

    def can_see(self, project: str) -> bool:
        """Whether the caller may access a project."""
        return self.project in (None, project)


LOCAL_CALLER = Caller("user", Role.ADMIN)
"""The caller of every request where access control is off."""


@dataclass(frozen=True)
class Token:
    """An access token as it is stored, without its secret."""

    id: str
    name: str
    role: Role
    project: str | None
    digest: str
    """SHA-256 of the secret. The secret has 256 random bits, so a slow hash, as for passwords,
    would only cost time at every request."""

    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_valid(self, at: datetime) -> bool:
        """Whether it is neither expired nor revoked."""
        has_expired = self.expires_at is not None and self.expires_at <= at
        return self.revoked_at is None and not has_expired

    @property
    def caller(self) -> Caller:
        return Caller(self.name, self.role, self.project, self.id)


@dataclass(frozen=True)
class AuditEntry:
    """A request that was meant to change something, whatever the response was."""

    at: datetime
    actor: str
    method: str
    path: str
    status: int
    request_id: str
    address: str
    run_id: str | None = None
    """The run that it changed or launched."""

    token_id: str | None = None
    """Names of tokens are not unique, ids are."""

    id: int | None = None


@dataclass
class NewEntryId:
    """The id of a new audit entry."""

    value: int | None = None
    """None until the store has inserted the entry, at the latest with the commit."""


@dataclass(frozen=True)
class RequestOutcome:
    """What the response to a request says, as far as its audit entry has it."""

    status: int
    run_id: str | None


@runtime_checkable
class HasOutcome(Protocol):
    """What a write returns if it knows how its request will be answered."""

    @property
    def outcome(self) -> RequestOutcome: ...


@dataclass(frozen=True)
class AttemptToken:
    """The token of a run's worker: valid for the records and logs of one attempt only."""

    run_id: str
    attempt: int


@dataclass(frozen=True)
class DriverToken:
    """The token of a sweep's driver: valid for the log of its sweep only."""

    sweep_id: str
    driver: int


_TOKEN = re.compile(r"tdm_([0-9a-f]{10})_([A-Za-z0-9_-]{43})")
_WORKER_TOKEN = re.compile(r"tdw_([a-z0-9]{1,16})\.([0-9]{1,6})\.([A-Za-z0-9_-]{43})")
_UNMATCHED_DIGEST = "0" * 64


def generate_token() -> tuple[str, str, str]:
    """The id, the digest to store, and the text to show once to its owner."""
    token_id, secret = secrets.token_hex(5), secrets.token_urlsafe(32)
    return token_id, hash_secret(secret), f"tdm_{token_id}_{secret}"


def hash_secret(secret: str) -> str:
    """The digest that is stored instead of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_token(text: str) -> tuple[str, str] | None:
    """Id and secret of a token's text; None if the text is no token."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else (match[1], match[2])


def token_from_text(text: str, *, name: str, role: Role, at: datetime) -> Token:
    """The token with this text; raises `ValueError` if the text is no token."""
    parsed = parse_token(text)
    if parsed is None:
        raise ValueError("this is not the text of a token")
    token_id, secret = parsed
    return Token(token_id, name, role, None, hash_secret(secret), created_at=at)


def verify_secret(token: Token | None, secret: str, *, at: datetime) -> bool:
    """Whether a secret belongs to a valid token; takes the same time if there is no such token."""
    is_same = hmac.compare_digest(
        hash_secret(secret), _UNMATCHED_DIGEST if token is None else token.digest
    )
    return token is not None and is_same and token.is_valid(at)


def make_worker_token(subject_id: str, number: int, *, key: bytes) -> str:
    """The text of the token of an attempt or of a driver: an HMAC over id and number."""
    mac = hmac.digest(key, f"{subject_id}.{number}".encode(), "sha256")
    return f"tdw_{subject_id}.{number}.{urlsafe_b64encode(mac).decode().rstrip('=')}"


def verify_worker_token(text: str, *, key: bytes) -> AttemptToken | DriverToken | None:
    """The attempt or driver that a token belongs to; None if the token is invalid."""
    match = _WORKER_TOKEN.fullmatch(text)
    if match is None:
        return None
    subject_id, number = match[1], int(match[2])
    if not hmac.compare_digest(text, make_worker_token(subject_id, number, key=key)):
        return None
    token_class = DriverToken if is_sweep_id(subject_id) else AttemptToken
    return token_class(subject_id, number)
