"""Fails a whole default run whose tests take longer, together, than they may.

Seconds say little: machines differ, and other work slows one down. So each process does a fixed
piece of work every few seconds between tests, and the sum of all durations is told in multiples of
its mean time. What slows the tests down slows the piece of work down too, at the same moment.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import pytest

BUDGET = 100_000
"""How many pieces of work all tests may take together: 1.2 times the 82,839 of a whole run."""

EVERY_S = 4.0
"""Seconds between two pieces of work in a process."""

_ITERATIONS = 200_000
_PIECE = "piece_of_work_s"


@dataclass
class Spent:
    """What the tests of a run have taken so far."""

    tests_s: float = 0.0
    work_units_s: list[float] = field(default_factory=list)

    @property
    def num_work_units(self) -> float:
        """The durations of all tests in multiples of the piece of work; 0 without a measurement.

        The mean and not the median: on a loaded machine a short piece of work is either let
        through or interrupted for long, and only the mean tells how much slower all of it is.
        """
        if not self.work_units_s:
            return 0.0
        return self.tests_s * len(self.work_units_s) / sum(self.work_units_s)

    def add(self, duration_s: float, properties: Sequence[tuple[str, object]]) -> None:
        """Count one phase of a test, and the piece of work that was measured after it."""
        self.tests_s += duration_s
        self.work_units_s += [float(str(value)) for name, value in properties if name == _PIECE]


def measure_work_unit() -> float:
    """Seconds that the fixed piece of work takes now."""
    start_s = time.perf_counter()
    total = 0
    for number in range(_ITERATIONS):
        total += number * number % 7
    assert total > 0
    return time.perf_counter() - start_s


class TimeBudget:
    """The plugin; measures in the processes that run tests, and judges in the one that reports."""

    def __init__(self, config: pytest.Config, *, budget: float = BUDGET) -> None:
        self._config = config
        self._budget = budget
        self._spent = Spent()
        self._measured_at = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Measure a piece of work after a test now and then; its time is in no test's duration."""
        report = yield
        if call.when == "teardown" and time.monotonic() - self._measured_at > EVERY_S:
            report.user_properties.append((_PIECE, measure_work_unit()))
            self._measured_at = time.monotonic()
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the phase of a test to the sum."""
        properties = report.user_properties if report.when == "teardown" else []
        self._spent.add(report.duration, properties)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run that is over its budget."""
        if exitstatus == pytest.ExitCode.OK and self._is_over:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what the run took, and what to do if it was too much."""
        if not is_complete_default_run(self._config) or not self._spent.work_units_s:
            return
        tests_s, num_work_units = self._spent.tests_s, self._spent.num_work_units
        terminalreporter.write_line(
            f"All tests took {tests_s:.0f} s together: {num_work_units:.0f} pieces of work of "
            f"{1000 * tests_s / num_work_units:.1f} ms; the budget is {self._budget:g}."
        )
        if self._is_over:
            terminalreporter.write_line(
                "The tests are over their budget: see the slowest ones above, make them quicker, "
                "or mark what is slow by nature `slow` beside a quicker test of the same.",
                red=True,
            )

    @property
    def _is_over(self) -> bool:
        is_judge = not hasattr(self._config, "workerinput")
        is_over = self._spent.num_work_units > self._budget
        return is_judge and is_over and is_complete_default_run(self._config)


def is_complete_default_run(config: pytest.Config) -> bool:
    """Whether the run is of all default tests: without paths, and with the markers of the tree."""
    options = list(config.getini("addopts"))
    markers = options[options.index("-m") + 1]
    return (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and config.option.markexpr == markers
        and not config.option.keyword
        and not config.option.deselect
        and not config.option.collectonly
        and not getattr(config.option, "lf", False)
        and not config.option.maxfail
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have every process take part."""
    config.pluginmanager.register(TimeBudget(config), "tandem-budget")
