"""What stands against a sweep, beside what stands against its base: pure."""

from collections.abc import Iterator, Mapping
from math import prod

from configs.catalog import SpecError
from configs.derived_specs import trial_spec
from configs.protocol.names import Metric
from configs.spec.run import RunSpec
from configs.spec.search import (
    BALANCE,
    RATIO,
    Asha,
    Choice,
    GridSearch,
    Hyperband,
    Integer,
    MedianStopping,
    Parameter,
    Scalar,
)
from configs.spec.sweep import Space, SweepSpec, Values
from service.domain.planning.findings import Finding, error

_MOST_TAGS = 32
_EPOCHS = "schedule.epochs"


def sweep_findings(spec: SweepSpec) -> Iterator[Finding]:
    """Everything that speaks against a search, parameter by parameter."""
    for path in spec.space:
        yield from _parameter_findings(path, spec)
    for number, values in enumerate(spec.initial_points):
        if (why := explain_invalid_values(spec.base, values, repeats=spec.repeats)) is not None:
            yield error(f"first.{number}", "no_valid_trial", why)
    yield from _scheduler_findings(spec)
    yield from _budget_findings(spec)
    yield from _objective_findings(spec)
    if len({*spec.base.tags, *spec.tags}) > _MOST_TAGS:
        yield error("tags", "too_many_tags", f"With the base's a run has {_MOST_TAGS} at most.")


def grid_size(space: Space, points: int) -> int:
    """How many combinations a grid has, were there no conditions."""
    return prod(_grid_values(parameter, points) for parameter in space.values())


def explain_invalid_values(base: RunSpec, values: Values, *, repeats: int) -> str | None:
    """Why a trial with these values could not be; none: it can."""
    try:
        known = _without_ratio(values)
        trial_spec(base, known, seed=base.seed + repeats - 1)
    except SpecError as refused:
        return "; ".join(
            f"{problem.field}: {problem.message}" if problem.field else problem.message
            for problem in refused.problems
        )
    except (ValueError, TypeError) as refused:
        return str(refused)
    return None


def _without_ratio(values: Values) -> Values:
    """Values as they may be once the ratio is measured: what it stands for is there."""
    if RATIO not in values:
        return dict(values)
    if float(values[RATIO]) < 0.0:
        raise ValueError(f"{RATIO} is 0 or more, got {values[RATIO]}")
    if not 0.0 <= float(values.get(BALANCE, 0.5)) <= 1.0:
        raise ValueError(f"{BALANCE} is a share from 0 to 1, got {values[BALANCE]}")
    rest = {path: value for path, value in values.items() if path not in (RATIO, BALANCE)}
    return rest | {"distillation.cls_weight": 1.0, "distillation.loc_weight": 1.0}


def _parameter_findings(path: str, spec: SweepSpec) -> Iterator[Finding]:
    """A trial with each extreme value can be; the first that cannot is told."""
    for value in _extremes(spec.space[path]):
        values = _example(spec.space, path, value)
        if values is None:
            why = f"{path} never exists: its conditions contradict each other."
            yield error(f"space.{path}", "never_there", why)
            return
        if (why_not := explain_invalid_values(spec.base, values, repeats=spec.repeats)) is not None:
            text = f"With {path} = {value} there is no valid run: {why_not}"
            yield error(f"space.{path}", "no_valid_trial", text)
            return


def _extremes(parameter: Parameter) -> tuple[Scalar, ...]:
    if isinstance(parameter, Choice):
        return parameter.values
    return (parameter.low, parameter.high)


def _example(space: Space, path: str, value: Scalar) -> Values | None:
    """Values of a trial in which a parameter has this one; none if it never exists."""
    values: Values = {}
    if not _settle(space, path, value, values):
        return None
    while True:
        following = next((p for p in space if p not in values and _exists(space, p, values)), None)
        if following is None:
            return values
        values[following] = _extremes(space[following])[0]


def _settle(space: Space, path: str, value: Scalar, values: Values) -> bool:
    """Give a parameter its value and those that it depends on theirs; whether that can be."""
    values[path] = value
    return all(
        _settle_one_of(space, other, wanted, values) for other, wanted in space[path].when.items()
    )


def _settle_one_of(space: Space, path: str, wanted: tuple[Scalar, ...], values: Values) -> bool:
    if path in values:
        return values[path] in wanted
    possible = next((value for value in wanted if _can_be(space[path], value)), None)
    return possible is not None and _settle(space, path, possible, values)


def _can_be(parameter: Parameter, value: Scalar) -> bool:
    if isinstance(parameter, Choice):
        return value in parameter.values
    return isinstance(value, int | float) and parameter.low <= value <= parameter.high


def _exists(space: Space, path: str, values: Mapping[str, Scalar]) -> bool:
    return all(
        other in values and values[other] in wanted for other, wanted in space[path].when.items()
    )


def _scheduler_findings(spec: SweepSpec) -> Iterator[Finding]:
    scheduler = spec.scheduler
    if not isinstance(scheduler, Asha | Hyperband | MedianStopping):
        return
    epochs = _fewest_epochs(spec)
    if scheduler.grace_epochs >= epochs:
        yield error(
            "scheduler.grace_epochs",
            "never_stops",
            f"Trials have {epochs} epochs, so a scheduler that waits for {scheduler.grace_epochs} "
            "stops none; make it smaller, or the schedule longer.",
        )
    elif isinstance(scheduler, Hyperband):
        last = scheduler.grace_epochs * scheduler.factor ** (scheduler.brackets - 1)
        if last >= epochs:
            yield Finding(
                "warning",
                "scheduler.brackets",
                "bracket_never_stops",
                f"The last bracket begins to halve after epoch {last} of {epochs}: it stops none.",
            )


def _fewest_epochs(spec: SweepSpec) -> int:
    swept = spec.space.get(_EPOCHS)
    if swept is None:
        return spec.base.schedule.epochs
    numbers = [int(value) for value in _extremes(swept) if isinstance(value, int | float)]
    return min(numbers, default=spec.base.schedule.epochs)


def _budget_findings(spec: SweepSpec) -> Iterator[Finding]:
    if spec.budget.gpu_hours is not None and spec.base.resources.num_gpus == 0:
        yield error(
            "budget.gpu_hours", "no_effect", "The base trains on the CPU: no GPU is ever used."
        )
    if not isinstance(spec.algorithm, GridSearch):
        return
    size = grid_size(spec.space, spec.algorithm.points)
    if size > spec.budget.trials:
        yield Finding(
            "warning",
            "budget.trials",
            "grid_is_larger",
            f"The grid has up to {size} combinations, of which the first {spec.budget.trials} are "
            f"trained; trials: {size} trains all.",
        )


def _grid_values(parameter: Parameter, points: int) -> int:
    if isinstance(parameter, Choice):
        return len(parameter.values)
    if isinstance(parameter, Integer):
        return min(points, parameter.high - parameter.low + 1)
    return points


def _objective_findings(spec: SweepSpec) -> Iterator[Finding]:
    known = set(Metric)
    for number, objective in enumerate(spec.objectives):
        if objective.metric not in known:
            yield Finding(
                "warning",
                f"objectives.{number}.metric",
                "unknown_metric",
                f"{objective.metric} is none of the metrics that every run logs: "
                f"{', '.join(sorted(known))}. A trial without it never counts.",
            )
