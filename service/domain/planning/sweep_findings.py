"""Findings about a sweep, in addition to those about its base; no I/O."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

from configs.catalog import SpecError
from configs.derived_specs import trial_spec
from configs.grids import grid_values, is_active, iter_points
from configs.metric_keys import Metric
from configs.protocol.methods import MethodCatalog
from configs.spec.search import (
    BALANCE,
    RATIO,
    Asha,
    Choice,
    GridSearch,
    Hyperband,
    MedianStopping,
    Parameter,
    Scalar,
)
from configs.spec.sweep import MAX_TRIALS, Space, SweepSpec, Values
from service.domain.errors.requests import SpecRefused
from service.domain.planning.findings import Finding, error
from service.domain.planning.methods import pin_methods
from service.domain.planning.tag_findings import tag_findings

_MAX_TAGS = 32
_EPOCHS = "schedule.epochs"


def sweep_findings(spec: SweepSpec, catalog: MethodCatalog | None = None) -> Iterator[Finding]:
    """Check the parameters, initial points, scheduler, budget and objectives of a sweep.

    `catalog`: methods of the workers. None if no trial has one of another package, or if they are
    unknown: then its worker checks it.
    """
    for path in spec.space:
        yield from _parameter_findings(path, spec, catalog)
    for number, values in enumerate(spec.initial_points):
        if (why := explain_invalid_values(spec, values, catalog)) is not None:
            yield error(f"initial_points.{number}", "no_valid_trial", why)
    yield from _scheduler_findings(spec)
    yield from _budget_findings(spec)
    yield from _objective_findings(spec)
    yield from tag_findings(spec.tags)
    if len({*spec.base.tags, *spec.tags}) > _MAX_TAGS:
        yield error(
            "tags",
            "too_many_tags",
            f"A run has {_MAX_TAGS} tags at most, those of the base included.",
        )


def grid_size(space: Space, points: int) -> int:
    """Number of points of a grid, counted up to one more than a sweep may have trials."""
    grid = iter_points(space, partial(grid_values, count=points))
    return sum(1 for _ in islice(grid, MAX_TRIALS + 1))


def explain_invalid_values(
    spec: SweepSpec, values: Values, catalog: MethodCatalog | None = None
) -> str | None:
    """Why a trial with these values has no valid spec; None if it has one."""
    try:
        weighted = _replace_ratio(values)
        trial = trial_spec(spec.base, weighted, seed=spec.base.seed + spec.repeats - 1)
        if catalog is not None:
            pin_methods(trial, catalog)
    except SpecError as invalid:
        return "; ".join(
            f"{problem.field}: {problem.message}" if problem.field else problem.message
            for problem in invalid.problems
        )
    except SpecRefused as refusal:
        return str(refusal)
    except (ValueError, TypeError) as invalid:
        return str(invalid)
    return None


def _replace_ratio(values: Values) -> Values:
    """The values with placeholder weights for the ratio and the balance, which a probe resolves."""
    if RATIO not in values:
        return dict(values)
    if float(values[RATIO]) < 0.0:
        raise ValueError(f"{RATIO} is 0 or more, got {values[RATIO]}")
    if not 0.0 <= float(values.get(BALANCE, 0.5)) <= 1.0:
        raise ValueError(f"{BALANCE} is a fraction from 0 to 1, got {values[BALANCE]}")
    unchanged = {path: value for path, value in values.items() if path not in (RATIO, BALANCE)}
    return unchanged | {"distillation.cls_weight": 1.0, "distillation.loc_weight": 1.0}


def _parameter_findings(
    path: str, spec: SweepSpec, catalog: MethodCatalog | None
) -> Iterator[Finding]:
    """The first extreme value of a parameter with which no trial is valid."""
    for value in _extremes(spec.space[path]):
        values = _example_values(spec.space, path, value)
        if values is None:
            message = f"{path} never exists: its conditions contradict each other."
            yield error(f"space.{path}", "contradictory_conditions", message)
            return
        if (why_not := explain_invalid_values(spec, values, catalog)) is not None:
            message = f"With {path} = {value} there is no valid run: {why_not}"
            yield error(f"space.{path}", "no_valid_trial", message)
            return


def _extremes(parameter: Parameter) -> tuple[Scalar, ...]:
    if isinstance(parameter, Choice):
        return parameter.values
    return (parameter.low, parameter.high)


def _example_values(space: Space, path: str, value: Scalar) -> Values | None:
    """Values of a trial in which a parameter has this value; None if the parameter never exists."""
    values: Values = {}
    if not _assign(space, path, value, values):
        return None
    while True:
        free = next((p for p in space if p not in values and is_active(space[p], values)), None)
        if free is None:
            return values
        values[free] = _extremes(space[free])[0]


def _assign(space: Space, path: str, value: Scalar, values: Values) -> bool:
    """Assign a parameter and those that it depends on; False if their conditions contradict."""
    values[path] = value
    return all(
        _assign_any(space, other, allowed, values) for other, allowed in space[path].when.items()
    )


def _assign_any(space: Space, path: str, allowed: tuple[Scalar, ...], values: Values) -> bool:
    if path in values:
        return values[path] in allowed
    possible = next((value for value in allowed if _can_be(space[path], value)), None)
    return possible is not None and _assign(space, path, possible, values)


def _can_be(parameter: Parameter, value: Scalar) -> bool:
    if isinstance(parameter, Choice):
        return value in parameter.values
    return isinstance(value, int | float) and parameter.low <= value <= parameter.high


def _scheduler_findings(spec: SweepSpec) -> Iterator[Finding]:
    scheduler = spec.scheduler
    if not isinstance(scheduler, Asha | Hyperband | MedianStopping):
        return
    epochs = _min_epochs(spec)
    if scheduler.grace_epochs >= epochs:
        yield error(
            "scheduler.grace_epochs",
            "never_stops",
            f"Trials have {epochs} epochs, so a scheduler that waits for {scheduler.grace_epochs} "
            "stops none; lower grace_epochs, or train longer.",
        )
    elif isinstance(scheduler, Hyperband):
        last = scheduler.grace_epochs * scheduler.factor ** (scheduler.brackets - 1)
        if last >= epochs:
            yield Finding(
                "warning",
                "scheduler.brackets",
                "bracket_never_stops",
                f"The last bracket stops no trial: it begins after epoch {last} of {epochs}.",
            )


def _min_epochs(spec: SweepSpec) -> int:
    swept = spec.space.get(_EPOCHS)
    if swept is None:
        return spec.base.schedule.epochs
    numbers = [int(value) for value in _extremes(swept) if isinstance(value, int | float)]
    return min(numbers, default=spec.base.schedule.epochs)


def _budget_findings(spec: SweepSpec) -> Iterator[Finding]:
    if spec.budget.gpu_hours is not None and spec.base.resources.num_gpus == 0:
        yield error(
            "budget.gpu_hours", "no_effect", "The base trains on the CPU, so it uses no GPU hours."
        )
    if not isinstance(spec.algorithm, GridSearch):
        return
    size = grid_size(spec.space, spec.algorithm.points)
    if size > spec.budget.trials:
        yield Finding(
            "warning",
            "budget.trials",
            "grid_exceeds_trials",
            f"The grid has {_describe_grid(size)}, of which the first {spec.budget.trials} are "
            f"trained{f'; trials: {size} trains all' if size <= MAX_TRIALS else ''}.",
        )


def _describe_grid(size: int) -> str:
    return f"{size} points" if size <= MAX_TRIALS else f"more than {MAX_TRIALS} points"


def _objective_findings(spec: SweepSpec) -> Iterator[Finding]:
    metrics = set(Metric)
    for number, objective in enumerate(spec.objectives):
        if objective.metric not in metrics:
            yield Finding(
                "warning",
                f"objectives.{number}.metric",
                "unknown_metric",
                f"{objective.metric} is none of the metrics that every run logs: "
                f"{', '.join(sorted(metrics))}. A trial that does not log it never counts.",
            )
