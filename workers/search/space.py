"""Points of a search space: sampling, and equality of points."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from configs.grids import is_active, round_digits, topological_order, typed_value
from configs.spec.search import Choice, Integer, LogUniform, Parameter, Scalar, Uniform
from configs.spec.sweep import Values

_SAMPLED_DIGITS = 6
"""Significant digits of a sampled value, to keep it readable."""

_HALF = 0.5


def point_key(values: Values) -> Hashable:
    """Hashable key of a point; equal for two points that are the same trial."""
    return tuple(sorted((path, typed_value(value)) for path, value in values.items()))


def build_point(
    space: Mapping[str, Parameter], choose: Callable[[str, Parameter], Scalar]
) -> Values:
    """Build a point by choosing a value for every active parameter."""
    values: Values = {}
    for path, parameter in topological_order(space):
        if is_active(parameter, values):
            values[path] = choose(path, parameter)
    return values


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
    return min(max(round_digits(value, _SAMPLED_DIGITS), parameter.low), parameter.high)


def is_countable(space: Mapping[str, Parameter]) -> bool:
    """Whether the space has finitely many points."""
    return all(isinstance(parameter, Choice | Integer) for parameter in space.values())


def all_values(parameter: Parameter) -> Sequence[Scalar]:
    """All values of a choice or an integer."""
    if isinstance(parameter, Choice):
        return parameter.values
    assert isinstance(parameter, Integer)
    return range(parameter.low, parameter.high + 1)


def _sample_integer(parameter: Integer, random: Random) -> int:
    if not parameter.log:
        return random.randint(parameter.low, parameter.high)
    low, high = math.log(parameter.low - _HALF), math.log(parameter.high + _HALF)
    return min(max(round(math.exp(random.uniform(low, high))), parameter.low), parameter.high)


@dataclass(frozen=True)
class Wait:
    """No suggestion until another trial has ended."""
