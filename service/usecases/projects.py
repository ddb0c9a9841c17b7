"""Weights and limits of projects."""

from service.domain.access import Caller
from service.domain.errors.requests import ProjectForbidden
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.scheduling.projects import PriorityForbidden, Project
from service.domain.vocabulary import Role
from service.usecases.context import Context


def list_projects(*, caller: Caller, ctx: Context) -> list[Project]:
    """List the configured projects that the caller may see, by name."""
    with ctx.store.snapshot() as uow:
        return [project for project in uow.projects.all() if caller.can_see(project.name)]


def get_project(name: str, *, caller: Caller, ctx: Context) -> Project:
    """A project, with default limits if it was never configured.

    Raises `ProjectForbidden` if the caller is limited to another project.
    """
    if not caller.can_see(name):
        raise ProjectForbidden(name, caller.project or "")
    with ctx.store.snapshot() as uow:
        return uow.projects.get(name)


def set_project(project: Project, *, ctx: Context) -> None:
    """Configure a project; its limits apply to waiting runs from the next turn of the queue, and do
    not stop running ones. Its largest priority applies to later requests."""
    with ctx.store.transaction() as uow:
        uow.projects.put(project)


def check_priority(uow: UnitOfWork, priority: int, *, project: str, caller: Caller) -> None:
    """Raise `PriorityForbidden` if the caller may not give a run of a project this priority."""
    largest = limit_priority(uow, priority, project=project, caller=caller)
    if priority > largest:
        raise PriorityForbidden(priority, largest=largest, project=project)


def limit_priority(uow: UnitOfWork, priority: int, *, project: str, caller: Caller) -> int:
    """The priority, or the largest one that the caller may give in the project if that is less."""
    if caller.has_role(Role.ADMIN):
        return priority
    return min(priority, uow.projects.get(project).max_priority)
