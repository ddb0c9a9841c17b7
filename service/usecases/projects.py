"""How much of the cluster each project's runs may take."""

from service.domain.projects import Project
from service.usecases.world import World


def list_projects(*, world: World) -> list[Project]:
    """Those that somebody set, by name."""
    with world.store.begin() as unit:
        return unit.projects.all()


def show_project(name: str, *, world: World) -> Project:
    """One project; as `Project` says if nobody set it."""
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
