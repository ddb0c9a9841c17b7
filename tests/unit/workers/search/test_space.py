"""Points of a space: their range, active parameters, and equality."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from configs.grids import grid_values, iter_points
from configs.spec.search import Choice, Integer, LogUniform, Parameter, Uniform
from workers.search.space import build_point, point_key, sample


def test_numbers_are_the_same_however_they_are_written_but_true_is_not_one() -> None:
    assert point_key({"a": 1}) == point_key({"a": 1.0})
    assert point_key({"a": 1}) != point_key({"a": True})
    assert point_key({"a": "1"}) != point_key({"a": 1})


@st.composite
def draw_space(draw: st.DrawFn) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for name in draw(st.sets(st.sampled_from("abcdef"), min_size=1)):
        kind = draw(st.sampled_from(["uniform", "loguniform", "integer", "choice"]))
        parents = [path for path, parameter in parameters.items() if isinstance(parameter, Choice)]
        when = {parent: (0,) for parent in parents if draw(st.booleans())}
        low = draw(st.floats(0.001, 100, allow_subnormal=False))
        if kind == "uniform":
            parameters[name] = Uniform(low=-low, high=low, when=when)
        elif kind == "loguniform":
            parameters[name] = LogUniform(low=low, high=low * 7, when=when)
        elif kind == "integer":
            first = draw(st.integers(1, 9))
            is_log = draw(st.booleans())
            parameters[name] = Integer(low=first, high=first + 5, log=is_log, when=when)
        else:
            parameters[name] = Choice(values=(0, 1, "x"), when=when)
    return parameters


@given(draw_space(), st.integers(0, 1000))
def test_what_is_drawn_lies_in_the_space(space: dict[str, Parameter], seed: int) -> None:
    random = Random(seed)

    values = build_point(space, lambda _, parameter: sample(parameter, random))

    for path, parameter in space.items():
        holds = all(values.get(parent) in allowed for parent, allowed in parameter.when.items())
        assert (path in values) == holds
        if path in values:
            assert is_in_space(values[path], parameter)


@given(draw_space())
def test_a_grid_has_every_point_once(space: dict[str, Parameter]) -> None:
    grid = list(iter_points(space, lambda parameter: grid_values(parameter, 2)))

    assert len(set(map(point_key, grid))) == len(grid)
    assert all(is_in_space(point[path], space[path]) for point in grid for path in point)


def is_in_space(value: object, parameter: Parameter) -> bool:
    if isinstance(parameter, Choice):
        return value in parameter.values
    assert isinstance(value, int | float)
    return parameter.low <= value <= parameter.high
