"""Projects, tokens and the audit."""

from typing import Annotated

from fastapi import APIRouter, Query, status

from configs.spec.base import Name
from service.api.deps import CallerDep, WorldDep
from service.api.schemas.access import (
    AuditPage,
    AuditQuery,
    NewTokenView,
    ProjectRequest,
    ProjectView,
    TokenRequest,
    TokenView,
)
from service.api.views import view_of_entry, view_of_project, view_of_token
from service.usecases import access, projects

router = APIRouter(prefix="/v1", tags=["projects, tokens, audit"])


@router.get("/projects")
def list_projects(world: WorldDep, caller: CallerDep) -> list[ProjectView]:
    """Projects that have limits or a weight of their own."""
    found = projects.list_projects(caller=caller, world=world)
    return [view_of_project(project) for project in found]


@router.get("/projects/{name}")
def show_project(name: Name, world: WorldDep, caller: CallerDep) -> ProjectView:
    """One project; one that nobody set has no limits."""
    return view_of_project(projects.show_project(name, caller=caller, world=world))


@router.put("/projects/{name}")
def set_project(name: Name, body: ProjectRequest, world: WorldDep) -> ProjectView:
    """Say how much of the cluster a project's runs may take."""
    project = projects.set_project(
        name,
        weight=body.weight,
        max_runs=body.max_runs,
        max_gpus=body.max_gpus,
        world=world,
    )
    return view_of_project(project)


@router.post("/tokens", status_code=status.HTTP_201_CREATED)
def create_token(body: TokenRequest, world: WorldDep) -> NewTokenView:
    """Give somebody access; the text of the token is shown this once."""
    token, text = access.create_token(
        body.name,
        role=body.role,
        project=body.project,
        expires_at=body.expires_at,
        world=world,
    )
    return NewTokenView(token=view_of_token(token), text=text)


@router.get("/tokens")
def list_tokens(world: WorldDep) -> list[TokenView]:
    """Who has or had access."""
    return [view_of_token(token) for token in access.list_tokens(world=world)]


@router.delete("/tokens/{token_id}")
def revoke_token(token_id: str, world: WorldDep) -> TokenView:
    """Take access back."""
    return view_of_token(access.revoke_token(token_id, world=world))


@router.get("/audit")
def list_audit(world: WorldDep, query: Annotated[AuditQuery, Query()]) -> AuditPage:
    """Requests that were to change something, the newest first."""
    found = access.read_audit(before=query.before, limit=query.limit + 1, world=world)
    items = [view_of_entry(entry) for entry in found[: query.limit]]
    more = items[-1].id if len(found) > query.limit else None
    return AuditPage(items=items, next_before=more)
