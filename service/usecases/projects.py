"""How much of the cluster each project's runs may take."""

from service.domain.access import Caller
from service.domain.errors import ProjectForbidden
from service.domain.scheduling.projects import Project
from service.usecases.context import Context


def list_projects(*, caller: Caller, ctx: Context) -> list[Project]:
    """Those that somebody set and the caller may see, by name."""
    with ctx.store.transaction() as uow:
        return [project for project in uow.projects.all() if caller.can_see(project.name)]


def get_project(name: str, *, caller: Caller, ctx: Context) -> Project:
    """One project, as `Project` says if nobody set it; `ProjectForbidden` if it is not the caller's."""
    if not caller.can_see(name):
        raise ProjectForbidden(name, caller.project or "")
    with ctx.store.transaction() as uow:
        return uow.projects.get(name)


def set_project(
    name: str, *, weight: float, max_runs: int | None, max_gpus: int | None, ctx: Context
) -> Project:
    """Set it; runs that have room keep it, those that wait feel it at the next turn."""
    project = Project(name, weight=weight, max_runs=max_runs, max_gpus=max_gpus)
    with ctx.store.transaction() as uow:
        uow.projects.put(project)
    return project
