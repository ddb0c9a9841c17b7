"""What the terms of a run's loss did."""

from service.domain.budget import Budget, budget_from_points
from service.usecases.world import World


def budget_of_run(run_id: str, *, world: World) -> Budget:
    """The loss budget of a run; `RunNotFound` if there is none."""
    with world.store.begin() as unit:
        unit.runs.get(run_id)
        points = unit.points.of_run(run_id, key=None)
    return budget_from_points(points)
