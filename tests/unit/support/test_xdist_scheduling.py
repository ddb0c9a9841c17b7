"""How tests are distributed among processes."""

from pathlib import Path

import pytest

from tests.support.plugins.xdist_scheduling import GROUPS, LONGEST_FIRST, group_of, rank_of

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("tests/e2e/test_sweep.py::test_a", "tests/e2e/test_run.py::test_b[x::y]"),
        (
            "tests/integration/telemetry/test_mlflow_run.py::t",
            "tests/integration/telemetry/test_mlflow_sink.py::t",
        ),
        ("tests/unit/test_x.py::TestA::test_b", "tests/unit/test_x.py::test_c"),
    ],
)
def test_what_shares_a_fixture_runs_in_one_process(first: str, second: str) -> None:
    assert group_of(first) == group_of(second)


def test_other_modules_are_shared_out_one_by_one() -> None:
    assert group_of("tests/unit/test_x.py::test_a") != group_of("tests/unit/test_y.py::test_a")


def test_what_takes_longest_starts_first() -> None:
    ids = [
        "tests/unit/test_x.py::t",
        "tests/training/runs/test_train.py::t",
        "tests/e2e/test_a.py::t",
    ]

    assert sorted(ids, key=rank_of) == ids[::-1]


@pytest.mark.parametrize("start", [*GROUPS, *LONGEST_FIRST])
def test_every_path_that_is_named_is_in_the_tree(start: str) -> None:
    assert list(ROOT.glob(f"{start}*"))
