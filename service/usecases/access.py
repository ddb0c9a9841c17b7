"""Give access and take it back; know who asks; keep what was changed by whom."""

from dataclasses import replace
from datetime import datetime, timedelta

from service.domain.access import (
    AuditEntry,
    Caller,
    Role,
    Token,
    generate_token,
    parse_token,
    verify_secret,
)
from service.domain.errors import ProjectForbidden, TokenNotFound, TokenRefused, Unauthenticated
from service.usecases.context import Context

_USE_NOTED_EVERY = timedelta(minutes=1)


def create_token(
    name: str,
    *,
    role: Role,
    project: str | None,
    expires_at: datetime | None,
    ctx: Context,
) -> tuple[Token, str]:
    """A new token, and its text, which is kept nowhere; `TokenRefused` if there can be none."""
    now = ctx.clock.now()
    if role is Role.ADMIN and project is not None:
        raise TokenRefused("project", "An admin is one of all projects: leave the project out.")
    if expires_at is not None and expires_at <= now:
        raise TokenRefused("expires_at", "It would be over before it is used.")
    token_id, digest, text = generate_token()
    token = Token(
        id=token_id,
        name=name,
        role=role,
        project=project,
        digest=digest,
        created_at=now,
        expires_at=expires_at,
    )
    with ctx.store.transaction() as uow:
        uow.tokens.put(token)
    return token, text


def list_tokens(*, ctx: Context) -> list[Token]:
    """All that were ever given, the newest first."""
    with ctx.store.transaction() as uow:
        return uow.tokens.all()


def revoke_token(token_id: str, *, ctx: Context) -> Token:
    """Take access back, from the next request on."""
    with ctx.store.transaction() as uow:
        token = uow.tokens.get(token_id)
        if token is None:
            raise TokenNotFound(token_id)
        revoked = replace(token, revoked_at=token.revoked_at or ctx.clock.now())
        uow.tokens.put(revoked)
        return revoked


def authenticate(text: str, *, ctx: Context) -> Caller:
    """Who shows a token; `Unauthenticated`, in the same words whatever is wrong with it."""
    now = ctx.clock.now()
    parts = parse_token(text)
    if parts is None:
        raise Unauthenticated
    token_id, secret = parts
    given = ctx.static_tokens.get(token_id)
    if given is not None and verify_secret(given, secret, at=now):
        return given.caller
    with ctx.store.transaction() as uow:
        token = uow.tokens.get(token_id)
        if not verify_secret(token, secret, at=now) or token is None:
            raise Unauthenticated
        if token.last_used_at is None or now - token.last_used_at > _USE_NOTED_EVERY:
            uow.tokens.record_use(token_id, at=now)
    return token.caller


def resolve_project(asked: str | None, *, caller: Caller) -> str | None:
    """The project that a request is about; `ProjectForbidden` if the caller has no part in it."""
    if caller.project is not None and asked not in (None, caller.project):
        raise ProjectForbidden(asked or "", caller.project)
    return caller.project or asked


def write_audit(entry: AuditEntry, *, ctx: Context) -> None:
    """Keep an entry."""
    with ctx.store.transaction() as uow:
        uow.audit.add(entry)


def read_audit(*, cursor: int | None, limit: int, ctx: Context) -> list[AuditEntry]:
    """Entries, the newest first."""
    with ctx.store.transaction() as uow:
        return uow.audit.page(before=cursor, limit=limit)
