"""Give access and take it back; know who asks; keep what was changed by whom."""

from dataclasses import replace
from datetime import datetime, timedelta

from service.domain.access import (
    AuditEntry,
    Caller,
    Role,
    Token,
    new_token_text,
    opens,
    parts_of_token,
)
from service.domain.errors import NotLetIn, OtherProject, TokenNotFound, TokenRefused
from service.usecases.context import World

_USE_NOTED_EVERY = timedelta(minutes=1)


def create_token(
    name: str,
    *,
    role: Role,
    project: str | None,
    expires_at: datetime | None,
    world: World,
) -> tuple[Token, str]:
    """A new token, and its text, which is kept nowhere; `TokenRefused` if there can be none."""
    now = world.clock.now()
    if role is Role.ADMIN and project is not None:
        raise TokenRefused("project", "An admin is one of all projects: leave the project out.")
    if expires_at is not None and expires_at <= now:
        raise TokenRefused("expires_at", "It would be over before it is used.")
    token_id, digest, text = new_token_text()
    token = Token(
        id=token_id,
        name=name,
        role=role,
        project=project,
        digest=digest,
        created_at=now,
        expires_at=expires_at,
    )
    with world.store.begin() as unit:
        unit.tokens.put(token)
    return token, text


def list_tokens(*, world: World) -> list[Token]:
    """All that were ever given, the newest first."""
    with world.store.begin() as unit:
        return unit.tokens.all()


def revoke_token(token_id: str, *, world: World) -> Token:
    """Take access back, from the next request on."""
    with world.store.begin() as unit:
        token = unit.tokens.get(token_id)
        if token is None:
            raise TokenNotFound(token_id)
        revoked = replace(token, revoked_at=token.revoked_at or world.clock.now())
        unit.tokens.put(revoked)
        return revoked


def who_shows(text: str, *, world: World) -> Caller:
    """Who shows a token; `NotLetIn`, in the same words whatever is wrong with it."""
    now = world.clock.now()
    parts = parts_of_token(text)
    if parts is None:
        raise NotLetIn
    token_id, secret = parts
    given = world.given_tokens.get(token_id)
    if given is not None and opens(given, secret, at=now):
        return given.caller
    with world.store.begin() as unit:
        token = unit.tokens.get(token_id)
        if not opens(token, secret, at=now) or token is None:
            raise NotLetIn
        if token.last_used_at is None or now - token.last_used_at > _USE_NOTED_EVERY:
            unit.tokens.note_use(token_id, at=now)
    return token.caller


def project_for(asked: str | None, *, caller: Caller) -> str | None:
    """The project that a request is about; `OtherProject` if the caller has no part in it."""
    if caller.project is not None and asked not in (None, caller.project):
        raise OtherProject(asked or "", caller.project)
    return caller.project or asked


def write_audit(entry: AuditEntry, *, world: World) -> None:
    """Keep an entry."""
    with world.store.begin() as unit:
        unit.audit.add(entry)


def read_audit(*, before: int | None, limit: int, world: World) -> list[AuditEntry]:
    """Entries, the newest first."""
    with world.store.begin() as unit:
        return unit.audit.page(before=before, limit=limit)
