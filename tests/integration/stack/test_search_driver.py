"""The driver of a sweep with real Ray Tune, against a service that plays scripted trials."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from tests.support.stack.ray_head import a_ray_head
from tests.support.workers.fake_sweep import Answer, FakeSweep, serve
from tests.support.workers.sweeps import EPOCHS, a_sweep, goodness, played, values_of
from workers.search.early_stopping import EarlyStopper
from workers.search.sweep_log import ReplayedSweep

TANDEM_WORKER = Path(sys.executable).parent / "tandem-worker"
PATIENCE_S = 120.0
AWAY = Answer(503, "starting")

ALGORITHMS: dict[str, Algorithm] = {
    "tpe": Tpe(startup=2),
    "random": RandomSearch(),
    "grid": GridSearch(points=3),
}
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def ray() -> Iterator[dict[str, str]]:
    with a_ray_head() as env:
        yield env


def rising(values: Values) -> Sequence[float]:
    """As any detector learns: better trials are better at every epoch."""
    return [round(goodness(values) * epoch / EPOCHS, 6) for epoch in range(1, EPOCHS + 1)]


@contextmanager
def a_driver(sweep: FakeSweep, ray: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
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


def drive(sweep: FakeSweep, ray: dict[str, str]) -> str:
    """Drives a sweep to its end; what the driver said."""
    with a_driver(sweep, ray) as driver:
        said, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == ExitCode.SUCCEEDED, said
    return said


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def numbers(sweep: FakeSweep) -> list[int]:
    return [one.number for one in sweep.entries if one.kind == "suggested"]


def followers(ray: dict[str, str]) -> list[psutil.Process]:
    """Of our own Ray, and of no other on this machine."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if any(word.startswith("ray::Follower") for word in process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("RAY_AUTH_TOKEN") == ray["RAY_AUTH_TOKEN"]
    ]


def assert_is_whole(sweep: FakeSweep, count: int) -> None:
    """Every trial once, each ended once, then the end."""
    assert numbers(sweep) == list(range(count))
    ends = Counter(one.number for one in sweep.entries if one.kind == "ended")
    assert ends == Counter(range(count))
    assert isinstance(sweep.entries[-1], SweepClosed)
    assert [one.kind for one in sweep.entries].count("closed") == 1


@slow
def test_a_sweep_of_eight_trials_halves_them_and_is_closed(ray: dict[str, str]) -> None:
    spec = a_sweep(scheduler=Asha(), budget=Budget(trials=8), algorithm=RandomSearch())
    with serve(FakeSweep(spec, rising, results={2: "failed", 3: "cancelled"})) as sweep:
        sweep.script = [AWAY]
        said = drive(sweep, ray)

    assert_is_whole(sweep, 8)
    results = Counter(one.result for one in sweep.ended().values())
    assert results["failed"] == results["cancelled"] == 1
    assert results["stopped"] >= 2
    for one in sweep.ended().values():
        if one.result in ("failed", "cancelled"):
            assert (one.epoch, one.values) == (0, {})
            continue
        last = [judged for judged in sweep.judged() if judged.number == one.number][-1]
        assert one.epoch == last.epoch
        assert one.values == last.values
        assert last.should_continue == (one.result != "stopped")
        assert (one.epoch == EPOCHS) == (one.result == "finished")
    assert sweep.suggested() == values_of(played(spec, 8))
    assert "Trial 0 begins" in said
    assert "All 8 trials have been." in said


@pytest.mark.parametrize(
    ("algorithm", "scheduler"),
    [
        pytest.param("tpe", Asha(factor=2), id="tpe, asha"),
        pytest.param("random", MedianStopping(min_trials=2), marks=slow, id="random, median"),
        pytest.param("grid", Asha(factor=2), marks=slow, id="grid, asha"),
    ],
)
def test_a_search_whose_driver_is_killed_goes_on_as_if_it_had_not_been(
    ray: dict[str, str], algorithm: str, scheduler: Scheduler
) -> None:
    spec = a_sweep(
        algorithm=ALGORITHMS[algorithm], scheduler=scheduler, budget=Budget(trials=7), seed=1
    )
    with serve(FakeSweep(spec, rising, concurrency=1)) as whole:
        drive(whole, ray)

    with serve(FakeSweep(spec, rising, concurrency=1)) as sweep:
        with a_driver(sweep, ray) as driver:
            wait_for(lambda: len(sweep.entries) >= len(whole.entries) // 2)
            os.killpg(driver.pid, signal.SIGKILL)
        drive(sweep, ray)

    assert sweep.entries == whole.entries
    assert_is_whole(sweep, 7)
    one, other = (EarlyStopper(ReplayedSweep(spec, fake.entries)) for fake in (whole, sweep))
    assert one.debug_string() == other.debug_string()


@slow  # tests/integration/api/test_sweeps.py holds that the list takes the first one's words
def test_two_drivers_at_once_begin_no_trial_twice(ray: dict[str, str]) -> None:
    spec = a_sweep(algorithm=RandomSearch(), budget=Budget(trials=500))
    with (
        serve(FakeSweep(spec, rising, concurrency=3)) as sweep,
        a_driver(sweep, ray) as one,
        a_driver(sweep, ray) as other,
    ):
        wait_for(lambda: one.poll() is not None or other.poll() is not None)
        sweep.allows_new_trials = False
        said = [driver.communicate(timeout=PATIENCE_S)[0] for driver in (one, other)]

    codes = {one.returncode, other.returncode}
    assert codes == {ExitCode.SUCCEEDED, ExitCode.SUPERSEDED}, said
    assert_is_whole(sweep, len(numbers(sweep)))


@slow
def test_a_process_that_follows_a_trial_may_be_lost(ray: dict[str, str]) -> None:
    spec = a_sweep(algorithm=RandomSearch(), budget=Budget(trials=3))
    with serve(FakeSweep(spec, rising)) as sweep, a_driver(sweep, ray) as driver:
        wait_for(lambda: len(sweep.judged()) > 2)
        lost = followers(ray)
        for process in lost:
            process.kill()
        said, _ = driver.communicate(timeout=PATIENCE_S)

    assert driver.returncode == ExitCode.SUCCEEDED, said
    assert len(lost) == 2
    assert "another takes over" in said
    assert_is_whole(sweep, 3)
    told = Counter((one.number, one.epoch) for one in sweep.judged())
    assert set(told.values()) == {1}
    assert len(told) == 3 * EPOCHS


@slow
def test_a_driver_that_is_asked_to_leave_leaves_at_once(ray: dict[str, str]) -> None:
    with serve(FakeSweep(a_sweep(), rising)) as sweep, a_driver(sweep, ray) as driver:
        wait_for(lambda: len(sweep.judged()) > 2)
        driver.terminate()
        asked = time.monotonic()
        driver.wait(timeout=10)

    assert driver.returncode == ExitCode.STOPPED
    assert time.monotonic() - asked < 3
    wait_for(lambda: not followers(ray))


@slow
def test_a_sweep_whose_trials_may_begin_no_more_ends_with_those_that_train(
    ray: dict[str, str],
) -> None:
    spec = a_sweep(algorithm=RandomSearch(), budget=Budget(trials=50))
    with serve(FakeSweep(spec, rising)) as sweep, a_driver(sweep, ray) as driver:
        wait_for(lambda: len(sweep.judged()) > 2)
        sweep.allows_new_trials = False
        said, _ = driver.communicate(timeout=PATIENCE_S)

    assert driver.returncode == ExitCode.SUCCEEDED, said
    assert_is_whole(sweep, len(numbers(sweep)))
    assert len(numbers(sweep)) < 6
    assert "no more trials begin" in said


@slow
def test_the_strategy_runs_to_the_end_of_its_points(ray: dict[str, str]) -> None:
    spec: SweepSpec = a_sweep(algorithm=CoordinateSearch(points=3), budget=Budget(trials=50))
    with serve(FakeSweep(spec, rising, concurrency=4)) as sweep:
        drive(sweep, ray)
        count = len(sweep.entries)
        drive(sweep, ray)

    assert_is_whole(sweep, len(numbers(sweep)))
    assert 10 <= len(numbers(sweep)) <= 3 + 3 + 3 + 9
    assert len(sweep.entries) == count, "a closed sweep is left as it is"
