"""Weights and limits of projects."""

from service.domain.access import Caller
from service.domain.errors import ProjectForbidden
from service.domain.scheduling.projects import Project
from service.usecases.context import Context


def list_projects(*, caller: Caller, ctx: Context) -> list[Project]:
    """List the configured projects that the caller may see, by name."""
    with ctx.store.transaction() as uow:
        return [project for project in uow.projects.all() if caller.can_see(project.name)]


def get_project(name: str, *, caller: Caller, ctx: Context) -> Project:
    """A project, with default limits if it was never configured.

    Raises `ProjectForbidden` if the caller is limited to another project.
    """
    if not caller.can_see(name):
        raise ProjectForbidden(name, caller.project or "")
    with ctx.store.transaction() as uow:
        return uow.projects.get(name)


def set_project(
    name: str, *, weight: float, max_runs: int | None, max_gpus: int | None, ctx: Context
) -> Project:
    """Configure a project; it applies to waiting runs from the next turn of the queue, and does not
    stop running ones."""
    project = Project(name, weight=weight, max_runs=max_runs, max_gpus=max_gpus)
    with ctx.store.transaction() as uow:
        uow.projects.put(project)
    return project
