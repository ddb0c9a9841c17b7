"""Grids: how a range is split, and the conditions of their parameters."""

from configs.grids import grid_values, iter_points, topological_order
from configs.spec.search import Choice, Parameter, Uniform
from tests.support.workers.sweeps import make_choice, make_integer, make_log_uniform

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
