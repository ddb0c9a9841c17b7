"""Projects, tokens and the audit log."""

from typing import Annotated

from fastapi import Query, status

from configs.spec.base import Name
from service.api.deps import CallerDep, ContextDep
from service.api.routers import create_router
from service.api.schemas.access import (
    AuditPage,
    AuditQuery,
    NewTokenView,
    ProjectRequest,
    ProjectView,
    TokenPage,
    TokenRequest,
    TokenView,
)
from service.api.schemas.base import PageQuery
from service.api.views import to_audit_view, to_project_view, to_token_view
from service.domain.scheduling.projects import Project
from service.usecases import access, projects

router = create_router(tag="projects, tokens, audit")


@router.get("/projects")
def list_projects(ctx: ContextDep, caller: CallerDep) -> list[ProjectView]:
    """Projects that have limits or a weight of their own."""
    return [to_project_view(p) for p in projects.list_projects(caller=caller, ctx=ctx)]


@router.get("/projects/{name}")
def show_project(name: Name, ctx: ContextDep, caller: CallerDep) -> ProjectView:
    """One project; a project that was never set has no limits."""
    return to_project_view(projects.get_project(name, caller=caller, ctx=ctx))


@router.put("/projects/{name}")
def set_project(name: Name, body: ProjectRequest, ctx: ContextDep) -> ProjectView:
    """Set the limits and the weight of a project."""
    project = Project(
        name,
        weight=body.weight,
        max_runs=body.max_runs,
        max_gpus=body.max_gpus,
        max_priority=body.max_priority,
    )
    projects.set_project(project, ctx=ctx)
    return to_project_view(project)


@router.post("/tokens", status_code=status.HTTP_201_CREATED)
def create_token(body: TokenRequest, ctx: ContextDep) -> NewTokenView:
    """Create a token; its text is returned only here."""
    token, text = access.create_token(
        body.name,
        role=body.role,
        project=body.project,
        expires_at=body.expires_at,
        ctx=ctx,
    )
    return NewTokenView(token=to_token_view(token), text=text)


@router.get("/tokens")
def list_tokens(ctx: ContextDep, query: Annotated[PageQuery, Query()]) -> TokenPage:
    """All tokens, also those that are expired or revoked, newest first."""
    tokens = access.list_token_page(cursor=query.cursor, limit=query.limit + 1, ctx=ctx)
    items = [to_token_view(token) for token in tokens[: query.limit]]
    return TokenPage(items=items, next_cursor=items[-1].id if len(tokens) > query.limit else None)


@router.delete("/tokens/{token_id}")
def revoke_token(token_id: str, ctx: ContextDep) -> TokenView:
    """Revoke a token at once."""
    return to_token_view(access.revoke_token(token_id, ctx=ctx))


@router.get("/audit")
def list_audit(ctx: ContextDep, query: Annotated[AuditQuery, Query()]) -> AuditPage:
    """Write requests, newest first."""
    entries = access.read_audit(cursor=query.cursor, limit=query.limit + 1, ctx=ctx)
    items = [to_audit_view(entry) for entry in entries[: query.limit]]
    next_cursor = items[-1].id if len(entries) > query.limit else None
    return AuditPage(items=items, next_cursor=next_cursor)
