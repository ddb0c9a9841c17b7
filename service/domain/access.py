"""Who asks, and what they may do: pure."""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do; each may do all that those before it may."""

    VIEWER = "viewer"
    """Look."""

    RUNNER = "runner"
    """Launch, pause, cancel; register datasets and teachers."""

    ADMIN = "admin"
    """Set projects, give and take back access, read the audit."""

    def includes(self, least: "Role") -> bool:
        """Whether this role is `least` or a larger one."""
        order = list(Role)
        return order.index(self) >= order.index(least)


@dataclass(frozen=True)
class Caller:
    """Who asks; `project` none: of all projects."""

    name: str
    role: Role
    project: str | None = None
    token_id: str | None = None

    def has_role(self, least: Role) -> bool:
        """Whether the role reaches; what an admin does is for all projects, so one must see all."""
        return self.role.includes(least) and (least is not Role.ADMIN or self.project is None)

    def can_see(self, project: str) -> bool:
        """Whether things of a project exist for this caller."""
        return self.project in (None, project)


LOCAL_CALLER = Caller("user", Role.ADMIN)
"""Whoever sits at this machine, where access control is off."""


@dataclass(frozen=True)
class Token:
    """Somebody's access."""

    id: str
    name: str
    role: Role
    project: str | None
    digest: str
    """SHA-256 of the secret. That is drawn from 256 bits, so nobody can try all: a slow hash, as
    for passwords, would only cost time at every request."""

    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_valid(self, at: datetime) -> bool:
        """Whether it opens anything."""
        has_expired = self.expires_at is not None and self.expires_at <= at
        return self.revoked_at is None and not has_expired

    @property
    def caller(self) -> Caller:
        """Who shows it."""
        return Caller(self.name, self.role, self.project, self.id)


@dataclass(frozen=True)
class AuditEntry:
    """A request that was to change something, whatever was answered."""

    at: datetime
    actor: str
    method: str
    path: str
    status: int
    request_id: str
    address: str
    run_id: str | None = None
    """The run that it was about, or that it launched."""

    token_id: str | None = None
    """What was shown: names of tokens may be alike."""

    id: int | None = None


@dataclass(frozen=True)
class AttemptToken:
    """What a worker shows: good for the records of one attempt, and for nothing else."""

    run_id: str
    """Or a sweep's id: then it is its driver's."""

    attempt: int

    @property
    def is_driver(self) -> bool:
        """Whether the driver of a sweep shows it, and no worker of a run."""
        return self.run_id.startswith("s")


_TOKEN = re.compile(r"tdm_([0-9a-f]{10})_([A-Za-z0-9_-]{43})")
_SEAL = re.compile(r"tdw_([a-z0-9]{1,16})\.([0-9]{1,6})\.([A-Za-z0-9_-]{43})")
_NOBODYS_DIGEST = "0" * 64


def generate_token() -> tuple[str, str, str]:
    """The id, the digest that is kept, and the text that its owner is shown once."""
    token_id, secret = secrets.token_hex(5), secrets.token_urlsafe(32)
    return token_id, hash_secret(secret), f"tdm_{token_id}_{secret}"


def hash_secret(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_token(text: str) -> tuple[str, str] | None:
    """Id and secret of a token's text; none if it is no token."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else (found[1], found[2])


def token_from_text(text: str, *, name: str, role: Role, at: datetime) -> Token:
    """A token whose text is known; `ValueError` if it is none."""
    parts = parse_token(text)
    if parts is None:
        raise ValueError("that is no token's text")
    token_id, secret = parts
    return Token(token_id, name, role, None, hash_secret(secret), created_at=at)


def verify_secret(token: Token | None, secret: str, *, at: datetime) -> bool:
    """Whether a secret is that of a good token; it takes the same time for one that is unknown."""
    is_same = hmac.compare_digest(
        hash_secret(secret), _NOBODYS_DIGEST if token is None else token.digest
    )
    return token is not None and is_same and token.is_valid(at)


def make_attempt_token(run_id: str, attempt: int, *, key: bytes) -> str:
    """The text that the worker of an attempt shows."""
    mac = hmac.digest(key, f"{run_id}.{attempt}".encode(), "sha256")
    return f"tdw_{run_id}.{attempt}.{urlsafe_b64encode(mac).decode().rstrip('=')}"


def verify_attempt_token(text: str, *, key: bytes) -> AttemptToken | None:
    """The attempt that a text is the seal of; none if it is no seal of ours."""
    found = _SEAL.fullmatch(text)
    if found is None:
        return None
    run_id, attempt = found[1], int(found[2])
    is_ours = hmac.compare_digest(text, make_attempt_token(run_id, attempt, key=key))
    return AttemptToken(run_id, attempt) if is_ours else None
