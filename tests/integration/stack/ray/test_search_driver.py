"""The driver of a sweep with real Ray Tune, against a service with scripted trials."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from configs.protocol.names import ExitCode
from configs.protocol.sweep_log import SweepClosed
from configs.spec.search import (
    Algorithm,
    Asha,
    CoordinateSearch,
    GridSearch,
    MedianStopping,
    RandomSearch,
    Scheduler,
    Tpe,
)
from configs.spec.sweep import Budget, SweepSpec, Values
from tests.support.stack.ray_head import RayHead
from tests.support.waiting import wait_until
from tests.support.workers.fake_service import Response
from tests.support.workers.fake_sweep import FakeSweep, serve
from tests.support.workers.sweeps import (
    EPOCHS,
    compute_score,
    list_trial_values,
    make_sweep,
    run_search,
)
from workers.search.early_stopping import EarlyStopper
from workers.search.sweep_log import ReplayedSweep

TANDEM_WORKER = Path(sys.executable).parent / "tandem-worker"
TIMEOUT_S = 120.0
UNAVAILABLE = Response(503, "starting")

ALGORITHMS: dict[str, Algorithm] = {
    "tpe": Tpe(startup=2),
    "random": RandomSearch(),
    "grid": GridSearch(points=3),
}
slow = pytest.mark.slow

wait_for = partial(wait_until, timeout_s=TIMEOUT_S)


@pytest.fixture
def ray(ray_head: RayHead) -> dict[str, str]:
    return ray_head.driver_env


def make_rising_curve(values: Values) -> Sequence[float]:
    """Rising curves: a better trial is better at every epoch."""
    return [round(compute_score(values) * epoch / EPOCHS, 6) for epoch in range(1, EPOCHS + 1)]


@contextmanager
def make_driver(sweep: FakeSweep, ray: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [
        "sweep-driver",
        "--sweep",
        sweep.id,
        "--service-url",
        sweep.url,
        "--poll-interval",
        "0.05",
    ]
    with subprocess.Popen(
        [str(TANDEM_WORKER), *command],
        env=ray,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def run_driver(sweep: FakeSweep, ray: dict[str, str]) -> str:
    """Run the driver of a sweep to its end and return its output."""
    with make_driver(sweep, ray) as driver:
        output, _ = driver.communicate(timeout=TIMEOUT_S)
    assert driver.returncode == ExitCode.SUCCEEDED, output
    return output


def list_trial_numbers(sweep: FakeSweep) -> list[int]:
    return [entry.number for entry in sweep.entries if entry.kind == "suggested"]


def find_monitors(ray: dict[str, str]) -> list[psutil.Process]:
    """Monitor processes of this test's Ray cluster."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if any(word.startswith("ray::TrialMonitor") for word in process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("RAY_AUTH_TOKEN") == ray["RAY_AUTH_TOKEN"]
    ]


def assert_is_complete(sweep: FakeSweep, count: int) -> None:
    """Every trial started and ended once, then the sweep was closed."""
    assert list_trial_numbers(sweep) == list(range(count))
    ends = Counter(entry.number for entry in sweep.entries if entry.kind == "ended")
    assert ends == Counter(range(count))
    assert isinstance(sweep.entries[-1], SweepClosed)
    assert [entry.kind for entry in sweep.entries].count("closed") == 1


@slow
def test_a_sweep_of_eight_trials_halves_them_and_is_closed(ray: dict[str, str]) -> None:
    spec = make_sweep(scheduler=Asha(), budget=Budget(trials=8), algorithm=RandomSearch())
    with serve(FakeSweep(spec, make_rising_curve, results={2: "failed", 3: "cancelled"})) as sweep:
        sweep.scripted_responses = [UNAVAILABLE]
        output = run_driver(sweep, ray)

    assert_is_complete(sweep, 8)
    results = Counter(ended.result for ended in sweep.ended().values())
    assert results["failed"] == results["cancelled"] == 1
    assert results["stopped"] >= 2
    for ended in sweep.ended().values():
        if ended.result in ("failed", "cancelled"):
            assert (ended.epoch, ended.values) == (0, {})
            continue
        last_judgment = [judged for judged in sweep.judged() if judged.number == ended.number][-1]
        assert ended.epoch == last_judgment.epoch
        assert ended.values == last_judgment.values
        assert last_judgment.should_continue == (ended.result != "stopped")
        assert (ended.epoch == EPOCHS) == (ended.result == "finished")
    assert sweep.suggested() == list_trial_values(run_search(spec, 8))
    assert "Trial 0 starts" in output
    assert "All 8 trials have run." in output


@pytest.mark.parametrize(
    ("algorithm", "scheduler"),
    [
        pytest.param("tpe", Asha(factor=2), id="tpe, asha"),
        pytest.param("random", MedianStopping(min_trials=2), marks=slow, id="random, median"),
        pytest.param("grid", Asha(factor=2), marks=slow, id="grid, asha"),
    ],
)
def test_a_search_with_a_killed_driver_has_the_same_result(
    ray: dict[str, str], algorithm: str, scheduler: Scheduler
) -> None:
    spec = make_sweep(
        algorithm=ALGORITHMS[algorithm], scheduler=scheduler, budget=Budget(trials=7), seed=1
    )
    with serve(FakeSweep(spec, make_rising_curve, concurrency=1)) as full_sweep:
        run_driver(full_sweep, ray)

    with serve(FakeSweep(spec, make_rising_curve, concurrency=1)) as sweep:
        with make_driver(sweep, ray) as driver:
            wait_for(lambda: len(sweep.entries) >= len(full_sweep.entries) // 2)
            os.killpg(driver.pid, signal.SIGKILL)
        run_driver(sweep, ray)

    assert sweep.entries == full_sweep.entries
    assert_is_complete(sweep, 7)
    expected, actual = (
        EarlyStopper(ReplayedSweep(spec, fake.entries)) for fake in (full_sweep, sweep)
    )
    assert expected.debug_string() == actual.debug_string()


@slow  # tests/integration/api/test_sweeps.py holds that the list takes the first one's words
def test_two_drivers_at_once_begin_no_trial_twice(ray: dict[str, str]) -> None:
    spec = make_sweep(algorithm=RandomSearch(), budget=Budget(trials=500))
    with (
        serve(FakeSweep(spec, make_rising_curve, concurrency=3)) as sweep,
        make_driver(sweep, ray) as first,
        make_driver(sweep, ray) as second,
    ):
        wait_for(lambda: first.poll() is not None or second.poll() is not None)
        sweep.allows_new_trials = False
        outputs = [driver.communicate(timeout=TIMEOUT_S)[0] for driver in (first, second)]

    codes = {first.returncode, second.returncode}
    assert codes == {ExitCode.SUCCEEDED, ExitCode.SUPERSEDED}, outputs
    assert_is_complete(sweep, len(list_trial_numbers(sweep)))


@slow
def test_a_lost_monitor_is_restarted(ray: dict[str, str]) -> None:
    spec = make_sweep(algorithm=RandomSearch(), budget=Budget(trials=3))
    with serve(FakeSweep(spec, make_rising_curve)) as sweep, make_driver(sweep, ray) as driver:
        wait_for(lambda: len(sweep.judged()) > 2)
        lost = find_monitors(ray)
        for process in lost:
            process.kill()
        output, _ = driver.communicate(timeout=TIMEOUT_S)

    assert driver.returncode == ExitCode.SUCCEEDED, output
    assert len(lost) == 2
    assert "starting another one" in output
    assert_is_complete(sweep, 3)
    judgments = Counter((judgment.number, judgment.epoch) for judgment in sweep.judged())
    assert set(judgments.values()) == {1}
    assert len(judgments) == 3 * EPOCHS


@slow
def test_a_driver_exits_at_once_on_sigterm(ray: dict[str, str]) -> None:
    with (
        serve(FakeSweep(make_sweep(), make_rising_curve)) as sweep,
        make_driver(sweep, ray) as driver,
    ):
        wait_for(lambda: len(sweep.judged()) > 2)
        driver.terminate()
        terminated_at = time.monotonic()
        driver.wait(timeout=10)

    assert driver.returncode == ExitCode.STOPPED
    assert time.monotonic() - terminated_at < 3
    wait_for(lambda: not find_monitors(ray))


@slow
def test_a_sweep_without_new_trials_ends_with_the_running_ones(
    ray: dict[str, str],
) -> None:
    spec = make_sweep(algorithm=RandomSearch(), budget=Budget(trials=50))
    with serve(FakeSweep(spec, make_rising_curve)) as sweep, make_driver(sweep, ray) as driver:
        wait_for(lambda: len(sweep.judged()) > 2)
        sweep.allows_new_trials = False
        output, _ = driver.communicate(timeout=TIMEOUT_S)

    assert driver.returncode == ExitCode.SUCCEEDED, output
    assert_is_complete(sweep, len(list_trial_numbers(sweep)))
    assert len(list_trial_numbers(sweep)) < 6
    assert "allows no new trials" in output


@slow
def test_coordinate_search_runs_to_the_end_of_its_points(ray: dict[str, str]) -> None:
    spec: SweepSpec = make_sweep(algorithm=CoordinateSearch(points=3), budget=Budget(trials=50))
    with serve(FakeSweep(spec, make_rising_curve, concurrency=4)) as sweep:
        run_driver(sweep, ray)
        count = len(sweep.entries)
        run_driver(sweep, ray)

    assert_is_complete(sweep, len(list_trial_numbers(sweep)))
    assert 10 <= len(list_trial_numbers(sweep)) <= 3 + 3 + 3 + 9
    assert len(sweep.entries) == count, "a closed sweep is left as it is"
