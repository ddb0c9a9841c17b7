"""Points of a sweep's space: drawn, counted out, cut into steps; and when two are the same."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from configs.spec.search import Choice, Integer, LogUniform, Parameter, Scalar, Uniform
from configs.spec.sweep import Values

_DIGITS = 6
"""Significant ones of a value that is drawn: people read it, and no more of it matters."""

_ALL_DIGITS = 12
_HALF = 0.5


def point_key(values: Values) -> Hashable:
    """Equal for two points that are the same trial."""
    return tuple(sorted((path, _mark(value)) for path, value in values.items()))


def topological_order(space: Mapping[str, Parameter]) -> tuple[tuple[str, Parameter], ...]:
    """Parameters by name, each after those it depends on; who waits for itself never exists."""
    waiting = dict(sorted(space.items()))
    ready: dict[str, Parameter] = {}
    while True:
        turn = {path: one for path, one in waiting.items() if one.when.keys() <= ready.keys()}
        if not turn:
            return tuple(ready.items())
        ready |= turn
        waiting = {path: one for path, one in waiting.items() if path not in turn}


def is_active(parameter: Parameter, values: Values) -> bool:
    """Whether a parameter is there beside these values."""
    return all(
        path in values and _mark(values[path]) in set(map(_mark, allowed))
        for path, allowed in parameter.when.items()
    )


def build_point(
    space: Mapping[str, Parameter], choose: Callable[[str, Parameter], Scalar]
) -> Values:
    """One point, a value chosen for every parameter that exists."""
    values: Values = {}
    for path, parameter in topological_order(space):
        if is_active(parameter, values):
            values[path] = choose(path, parameter)
    return values


def iter_points(
    space: Mapping[str, Parameter], steps: Callable[[Parameter], Sequence[Scalar]]
) -> Iterator[Values]:
    """Every combination of the parameters' steps, once, in a fixed order."""
    yield from _below(topological_order(space), steps, {})


def sample(parameter: Parameter, random: Random) -> Scalar:
    """A value by chance."""
    if isinstance(parameter, Choice):
        return random.choice(parameter.values)
    if isinstance(parameter, Integer):
        return _drawn_integer(parameter, random)
    if isinstance(parameter, LogUniform):
        low, high = math.log(parameter.low), math.log(parameter.high)
        return round_value(parameter, math.exp(random.uniform(low, high)))
    return round_value(parameter, random.uniform(parameter.low, parameter.high))


def round_value(parameter: Uniform | LogUniform, value: float) -> float:
    """A value with few digits, within its bounds."""
    return min(max(_with_digits(value, _DIGITS), parameter.low), parameter.high)


def grid_values(parameter: Parameter, count: int) -> tuple[Scalar, ...]:
    """A range in `count` steps, evenly or by magnitude; of a choice all values."""
    if isinstance(parameter, Choice):
        return parameter.values
    is_log = isinstance(parameter, LogUniform) or (isinstance(parameter, Integer) and parameter.log)
    steps = _steps(parameter.low, parameter.high, count, is_log=is_log)
    if isinstance(parameter, Integer):
        return tuple(sorted({round(step) for step in steps}))
    return steps


def is_countable(space: Mapping[str, Parameter]) -> bool:
    """Whether the space has an end."""
    return all(isinstance(parameter, Choice | Integer) for parameter in space.values())


def all_values(parameter: Parameter) -> Sequence[Scalar]:
    """Every value of a parameter that is countable."""
    if isinstance(parameter, Choice):
        return parameter.values
    assert isinstance(parameter, Integer)
    return range(parameter.low, parameter.high + 1)


def is_same_value(one: Scalar, other: Scalar) -> bool:
    """Whether two values are one: 1 is 1.0, but not true."""
    return _mark(one) == _mark(other)


def _below(
    parameters: Sequence[tuple[str, Parameter]],
    steps: Callable[[Parameter], Sequence[Scalar]],
    values: Values,
) -> Iterator[Values]:
    if not parameters:
        yield dict(values)
        return
    (path, parameter), *rest = parameters
    if not is_active(parameter, values):
        yield from _below(rest, steps, values)
        return
    for value in steps(parameter):
        yield from _below(rest, steps, {**values, path: value})


def _drawn_integer(parameter: Integer, random: Random) -> int:
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
    return (float(low), *(_with_digits(step, _ALL_DIGITS) for step in inner[1:-1]), float(high))


def _with_digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _mark(value: Scalar) -> tuple[str, Scalar]:
    kind = "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    return kind, value


@dataclass(frozen=True)
class Wait:
    """Ask again when another trial has ended."""
