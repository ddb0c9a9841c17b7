"""What the time budget of the tests counts, and to which sessions it applies."""

import pytest

from tests.support.plugins.time_budget import Spent, measure_work_unit

pytest_plugins = ("pytester",)


def test_durations_are_told_in_pieces_of_work() -> None:
    spent = Spent()

    spent.add(3.0, [("piece_of_work_s", 0.01)])
    spent.add(1.0, [])
    spent.add(2.0, [("another", "thing"), ("piece_of_work_s", 0.03)])

    assert spent.num_work_units == pytest.approx(6.0 / 0.02)


def test_a_machine_at_half_the_pace_spends_as_many_pieces() -> None:
    spent = [Spent(), Spent()]

    for pace, run in zip((1.0, 2.0), spent, strict=True):
        for duration_s, piece_s in ((4.0, 0.02), (6.0, 0.03)):
            run.add(pace * duration_s, [("piece_of_work_s", pace * piece_s)])

    assert spent[0].num_work_units == pytest.approx(spent[1].num_work_units)


def test_without_a_measurement_nothing_is_judged() -> None:
    spent = Spent()

    spent.add(1000.0, [])

    assert spent.num_work_units == 0.0
    assert measure_work_unit() > 0.001


def make_project(pytester: pytest.Pytester, *, budget: float) -> None:
    """Write a project with a default test of 50 ms, a slow test, and a budget in pieces of work."""
    pytester.makeini(
        "[pytest]\ntestpaths = tests\naddopts = -m 'not slow'\nmarkers =\n    slow: takes minutes\n"
    )
    pytester.makeconftest(
        f"""
        from tests.support.plugins.time_budget import TimeBudget

        def pytest_configure(config):
            config.pluginmanager.register(TimeBudget(config, budget={budget}))
        """
    )
    tests = pytester.mkdir("tests") / "test_some.py"
    tests.write_text(
        "import time, pytest\n"
        "def test_default(): time.sleep(0.05)\n"
        "@pytest.mark.slow\n"
        "def test_slow(): time.sleep(0.05)\n"
    )


@pytest.mark.parametrize(
    ("budget", "options", "code"),
    [
        (0.001, (), pytest.ExitCode.TESTS_FAILED),
        (1e9, (), pytest.ExitCode.OK),
        (0.001, ("tests/test_some.py",), pytest.ExitCode.OK),
        (0.001, ("-k", "default"), pytest.ExitCode.OK),
        (0.001, ("-m", ""), pytest.ExitCode.OK),
    ],
    ids=["over", "within", "a path", "a keyword", "slow ones too"],
)
def test_only_a_whole_default_run_is_judged(
    pytester: pytest.Pytester, budget: float, options: tuple[str, ...], code: pytest.ExitCode
) -> None:
    make_project(pytester, budget=budget)

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

    assert result.ret == code
    assert result.parseoutcomes()["passed"] == (2 if options == ("-m", "") else 1)
    assert ("over their budget" in result.stdout.str()) == (code != pytest.ExitCode.OK)
    assert ("pieces of work" in result.stdout.str()) == (not options)
