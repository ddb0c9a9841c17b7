"""How much of the cluster each project's runs may take."""

from service.domain.access import Caller
from service.domain.errors import OtherProject
from service.domain.scheduling.projects import Project
from service.usecases.context import World


def list_projects(*, caller: Caller, world: World) -> list[Project]:
    """Those that somebody set and the caller may see, by name."""
    with world.store.begin() as unit:
        return [project for project in unit.projects.all() if caller.sees(project.name)]


def show_project(name: str, *, caller: Caller, world: World) -> Project:
    """One project, as `Project` says if nobody set it; `OtherProject` if it is not the caller's."""
    if not caller.sees(name):
        raise OtherProject(name, caller.project or "")
    with world.store.begin() as unit:
        return unit.projects.get(name)


def set_project(
    name: str, *, weight: float, max_runs: int | None, max_gpus: int | None, world: World
) -> Project:
    """Set it; runs that have room keep it, those that wait feel it at the next turn."""
    project = Project(name, weight=weight, max_runs=max_runs, max_gpus=max_gpus)
    with world.store.begin() as unit:
        unit.projects.put(project)
    return project
