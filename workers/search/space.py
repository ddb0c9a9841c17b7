"""Points of a search space: sampling, enumeration, grids, and equality of points."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from configs.spec.search import Choice, Integer, LogUniform, Parameter, Scalar, Uniform
from configs.spec.sweep import Values

_SAMPLED_DIGITS = 6
"""Significant digits of a sampled value, to keep it readable."""

_GRID_DIGITS = 12
_HALF = 0.5


def point_key(values: Values) -> Hashable:
    """Hashable key of a point; equal for two points that are the same trial."""
    return tuple(sorted((path, _typed_value(value)) for path, value in values.items()))


def topological_order(space: Mapping[str, Parameter]) -> tuple[tuple[str, Parameter], ...]:
    """Sort parameters by name, each after its parents; those in a cycle are left out."""
    waiting = dict(sorted(space.items()))
    ordered: dict[str, Parameter] = {}
    while True:
        ready_now = {
            path: parameter
            for path, parameter in waiting.items()
            if parameter.when.keys() <= ordered.keys()
        }
        if not ready_now:
            return tuple(ordered.items())
        ordered |= ready_now
        waiting = {path: parameter for path, parameter in waiting.items() if path not in ready_now}


def is_active(parameter: Parameter, values: Values) -> bool:
    """Whether a conditional parameter is active given the values of its parents."""
    return all(
        path in values and _typed_value(values[path]) in set(map(_typed_value, allowed))
        for path, allowed in parameter.when.items()
    )


def build_point(
    space: Mapping[str, Parameter], choose: Callable[[str, Parameter], Scalar]
) -> Values:
    """Build a point by choosing a value for every active parameter."""
    values: Values = {}
    for path, parameter in topological_order(space):
        if is_active(parameter, values):
            values[path] = choose(path, parameter)
    return values


def iter_points(
    space: Mapping[str, Parameter], steps: Callable[[Parameter], Sequence[Scalar]]
) -> Iterator[Values]:
    """Iterate over all combinations of the parameters' values, once, in a fixed order."""
    yield from _iter_combinations(topological_order(space), steps, {})


def sample(parameter: Parameter, random: Random) -> Scalar:
    """Draw a random value of the parameter."""
    if isinstance(parameter, Choice):
        return random.choice(parameter.values)
    if isinstance(parameter, Integer):
        return _sample_integer(parameter, random)
    if isinstance(parameter, LogUniform):
        low, high = math.log(parameter.low), math.log(parameter.high)
        return round_value(parameter, math.exp(random.uniform(low, high)))
    return round_value(parameter, random.uniform(parameter.low, parameter.high))


def round_value(parameter: Uniform | LogUniform, value: float) -> float:
    """Round to the digits of a sampled value, within the parameter's bounds."""
    return min(max(_round_digits(value, _SAMPLED_DIGITS), parameter.low), parameter.high)


def grid_values(parameter: Parameter, count: int) -> tuple[Scalar, ...]:
    """Split a range into `count` values on its linear or log scale; of a choice, all values."""
    if isinstance(parameter, Choice):
        return parameter.values
    is_log = isinstance(parameter, LogUniform) or (isinstance(parameter, Integer) and parameter.log)
    steps = _steps(parameter.low, parameter.high, count, is_log=is_log)
    if isinstance(parameter, Integer):
        return tuple(sorted({round(step) for step in steps}))
    return steps


def is_countable(space: Mapping[str, Parameter]) -> bool:
    """Whether the space has finitely many points."""
    return all(isinstance(parameter, Choice | Integer) for parameter in space.values())


def all_values(parameter: Parameter) -> Sequence[Scalar]:
    """All values of a choice or an integer."""
    if isinstance(parameter, Choice):
        return parameter.values
    assert isinstance(parameter, Integer)
    return range(parameter.low, parameter.high + 1)


def is_same_value(first: Scalar, second: Scalar) -> bool:
    """Whether two values are equal: 1 equals 1.0, but not True."""
    return _typed_value(first) == _typed_value(second)


def _iter_combinations(
    parameters: Sequence[tuple[str, Parameter]],
    steps: Callable[[Parameter], Sequence[Scalar]],
    values: Values,
) -> Iterator[Values]:
    if not parameters:
        yield dict(values)
        return
    (path, parameter), *remaining = parameters
    if not is_active(parameter, values):
        yield from _iter_combinations(remaining, steps, values)
        return
    for value in steps(parameter):
        yield from _iter_combinations(remaining, steps, {**values, path: value})


def _sample_integer(parameter: Integer, random: Random) -> int:
    if not parameter.log:
        return random.randint(parameter.low, parameter.high)
    low, high = math.log(parameter.low - _HALF), math.log(parameter.high + _HALF)
    return min(max(round(math.exp(random.uniform(low, high))), parameter.low), parameter.high)


def _steps(low: float, high: float, count: int, *, is_log: bool) -> tuple[float, ...]:
    shares = [index / (count - 1) for index in range(count)]
    if is_log:
        inner = [low * (high / low) ** share for share in shares]
    else:
        inner = [low + (high - low) * share for share in shares]
    return (float(low), *(_round_digits(step, _GRID_DIGITS) for step in inner[1:-1]), float(high))


def _round_digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _typed_value(value: Scalar) -> tuple[str, Scalar]:
    kind = "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    return kind, value


@dataclass(frozen=True)
class Wait:
    """No suggestion until another trial has ended."""
