"""Points of a space: their range, active parameters, and equality."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from configs.spec.search import Choice, Integer, LogUniform, Parameter, Uniform
from tests.support.workers.sweeps import make_choice, make_integer, make_log_uniform
from workers.search.space import (
    build_point,
    grid_values,
    iter_points,
    point_key,
    sample,
    topological_order,
)

KIND = "schedule.optimizer.kind"
MOMENTUM = "schedule.optimizer.momentum"
DEPENDENT: dict[str, Parameter] = {
    MOMENTUM: Choice(values=(0.8, 0.9), when={KIND: ("sgd",)}),
    KIND: make_choice("sgd", "adamw"),
}


def test_a_range_is_cut_evenly_and_one_of_magnitudes_by_magnitude() -> None:
    assert grid_values(Uniform(low=0, high=1, when={}), 5) == (0, 0.25, 0.5, 0.75, 1)
    assert grid_values(make_log_uniform(0.25, 4), 5) == (0.25, 0.5, 1, 2, 4)
    assert grid_values(make_integer(1, 4), 64) == (1, 2, 3, 4)
    assert grid_values(make_integer(1, 100, log=True), 3) == (1, 10, 100)


def test_a_conditional_parameter_is_only_where_its_condition_holds() -> None:
    points = list(iter_points(DEPENDENT, lambda parameter: grid_values(parameter, 3)))

    assert points == [
        {KIND: "sgd", MOMENTUM: 0.8},
        {KIND: "sgd", MOMENTUM: 0.9},
        {KIND: "adamw"},
    ]


def test_parameters_that_wait_for_each_other_never_exist() -> None:
    circle: dict[str, Parameter] = {
        "student.a": make_choice(1, 2, **{"student.b": (1,)}),
        "student.b": make_choice(1, 2, **{"student.a": (1,)}),
        "student.c": make_choice(1, 2),
    }

    assert [path for path, _ in topological_order(circle)] == ["student.c"]


def test_the_order_in_which_a_space_is_written_changes_nothing() -> None:
    reordered = dict(reversed(DEPENDENT.items()))

    assert topological_order(reordered) == topological_order(DEPENDENT)


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
