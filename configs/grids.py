"""The grid of a search space: its points, with the conditions under which parameters exist."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from configs.spec.search import Choice, Integer, LogUniform, Parameter, Scalar
from configs.spec.sweep import Values

_GRID_DIGITS = 12


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
        path in values and typed_value(values[path]) in set(map(typed_value, allowed))
        for path, allowed in parameter.when.items()
    )


def iter_points(
    space: Mapping[str, Parameter], steps: Callable[[Parameter], Sequence[Scalar]]
) -> Iterator[Values]:
    """Iterate over all combinations of the parameters' values, once, in a fixed order."""
    yield from _iter_combinations(topological_order(space), steps, {})


def grid_values(parameter: Parameter, count: int) -> tuple[Scalar, ...]:
    """Split a range into `count` values on its linear or log scale; of a choice, all values."""
    if isinstance(parameter, Choice):
        return parameter.values
    is_log = isinstance(parameter, LogUniform) or (isinstance(parameter, Integer) and parameter.log)
    steps = _steps(parameter.low, parameter.high, count, is_log=is_log)
    if isinstance(parameter, Integer):
        return tuple(sorted({round(step) for step in steps}))
    return steps


def is_same_value(first: Scalar, second: Scalar) -> bool:
    """Whether two values are equal: 1 equals 1.0, but not True."""
    return typed_value(first) == typed_value(second)


def typed_value(value: Scalar) -> tuple[str, Scalar]:
    """Equal for two values only if they are the same value of a parameter, as 1 and 1.0 are."""
    kind = "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    return kind, value


def round_digits(value: float, digits: int) -> float:
    """Round to a number of significant digits."""
    return float(f"{value:.{digits}g}")


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


def _steps(low: float, high: float, count: int, *, is_log: bool) -> tuple[float, ...]:
    shares = [index / (count - 1) for index in range(count)]
    if is_log:
        inner = [low * (high / low) ** share for share in shares]
    else:
        inner = [low + (high - low) * share for share in shares]
    return (float(low), *(round_digits(step, _GRID_DIGITS) for step in inner[1:-1]), float(high))
