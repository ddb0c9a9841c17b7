"""Access tokens, authentication, project scopes, and the audit log."""

from dataclasses import replace
from datetime import datetime, timedelta

from service.domain.access import (
    AuditEntry,
    Caller,
    Token,
    generate_token,
    parse_token,
    verify_secret,
)
from service.domain.errors.requests import (
    ProjectForbidden,
    TokenNotFound,
    TokenRefused,
    Unauthenticated,
)
from service.domain.vocabulary import Role
from service.usecases.context import Context

_USE_RECORD_INTERVAL = timedelta(minutes=1)


def create_token(
    name: str,
    *,
    role: Role,
    project: str | None,
    expires_at: datetime | None,
    ctx: Context,
) -> tuple[Token, str]:
    """Create a token and return it with its secret text, which is not stored.

    Raises `TokenRefused` for an admin token of one project, or an expiry in the past.
    """
    now = ctx.clock.now()
    if role is Role.ADMIN and project is not None:
        raise TokenRefused("project", "An admin token covers all projects: omit the project.")
    if expires_at is not None and expires_at <= now:
        raise TokenRefused("expires_at", "The token would already be expired: choose a later time.")
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
    """List every token, revoked and expired ones included, newest first."""
    with ctx.store.snapshot() as uow:
        return uow.tokens.all()


def list_token_page(*, cursor: str | None, limit: int, ctx: Context) -> list[Token]:
    """Up to `limit` tokens, newest first, behind the one with the id `cursor`; `TokenNotFound`
    if there is none with this id."""
    with ctx.store.transaction() as uow:
        last = None if cursor is None else uow.tokens.get(cursor)
        if cursor is not None and last is None:
            raise TokenNotFound(cursor)
        return uow.tokens.page(after=last, limit=limit)


def is_token_valid(token_id: str, *, ctx: Context) -> bool:
    """Whether a token that was valid once still is."""
    token = ctx.static_tokens.get(token_id)
    if token is None:
        with ctx.store.transaction() as uow:
            token = uow.tokens.get(token_id)
    return token is not None and token.is_valid(ctx.clock.now())


def revoke_token(token_id: str, *, ctx: Context) -> Token:
    """Revoke a token, effective from the next request; `TokenNotFound` for an unknown id."""
    with ctx.store.transaction() as uow:
        token = uow.tokens.get(token_id)
        if token is None:
            raise TokenNotFound(token_id)
        revoked = replace(token, revoked_at=token.revoked_at or ctx.clock.now())
        uow.tokens.put(revoked)
        return revoked


def authenticate(text: str, *, ctx: Context) -> Caller:
    """The caller of a token; raises the same `Unauthenticated` for every kind of invalid token."""
    now = ctx.clock.now()
    parts = parse_token(text)
    if parts is None:
        raise Unauthenticated
    token_id, secret = parts
    static_token = ctx.static_tokens.get(token_id)
    if static_token is not None and verify_secret(static_token, secret, at=now):
        return static_token.caller
    with ctx.store.snapshot() as uow:
        token = uow.tokens.get(token_id)
    if not verify_secret(token, secret, at=now) or token is None:
        raise Unauthenticated
    if token.last_used_at is None or now - token.last_used_at > _USE_RECORD_INTERVAL:
        ctx.store.write_together(lambda uow: uow.tokens.record_use(token_id, at=now))
    return token.caller


def resolve_project(requested: str | None, *, caller: Caller) -> str | None:
    """The project of a request; `ProjectForbidden` if the caller is limited to another project."""
    if caller.project is not None and requested not in (None, caller.project):
        raise ProjectForbidden(requested or "", caller.project)
    return caller.project or requested


def read_audit(*, cursor: int | None, limit: int, ctx: Context) -> list[AuditEntry]:
    """A page of the audit log, newest first, of entries older than `cursor`."""
    with ctx.store.snapshot() as uow:
        return uow.audit.page(before=cursor, limit=limit)
