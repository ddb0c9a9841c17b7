"""Reads of runs: one, many, their attempts and metrics."""

from dataclasses import replace

from configs.spec.dataset import ClassNames
from configs.spec.run import NamedDataset
from service.domain.access import Caller
from service.domain.errors import (
    RunNotFound,
)
from service.domain.loss_budget import Budget, budget_from_points
from service.domain.planning.references import references_of
from service.domain.repositories.runs import RunFilter
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Attempt, MetricPoint, Run
from service.usecases.access import project_for
from service.usecases.context import World


def budget_of_run(run_id: str, *, world: World) -> Budget:
    """The loss budget of a run; `RunNotFound` if there is none."""
    with world.store.begin() as unit:
        unit.runs.get(run_id)
        points = unit.points.of_run(run_id, key=None)
    return budget_from_points(points)


def show_run(run_id: str, *, world: World) -> Run:
    """A run; `RunNotFound` if there is none."""
    with world.store.begin() as unit:
        return unit.runs.get(run_id)


def list_runs(which: RunFilter, *, caller: Caller, world: World) -> list[Run]:
    """Runs that the caller may see, newest first."""
    which = replace(which, project=project_for(which.project, caller=caller))
    with world.store.begin() as unit:
        if which.before is not None and not caller.sees(unit.runs.get(which.before).project):
            raise RunNotFound(which.before)
        return unit.runs.page(which)


def attempts_of_run(run_id: str, *, world: World) -> list[Attempt]:
    """The tries of a run."""
    with world.store.begin() as unit:
        unit.runs.get(run_id)
        return unit.attempts.of_run(run_id)


def metrics_of_run(run_id: str, *, key: str | None, world: World) -> list[MetricPoint]:
    """Metric values by key and step."""
    with world.store.begin() as unit:
        unit.runs.get(run_id)
        return unit.points.of_run(run_id, key=key)


def classes_of_run(unit: Unit, run: Run) -> ClassNames | None:
    """The classes that a run's student knows; none if its dataset is not registered any more."""
    reference = references_of(run.spec).dataset
    dataset = unit.registry.dataset(reference.name) if isinstance(reference, NamedDataset) else None
    return None if dataset is None else dataset.manifest.classes
