"""Several processes train one run in a real Ray cluster: success, failure and stop."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.metric_keys import Metric
from configs.protocol.names import ExitCode
from tests.support.training.digits import write_digits
from tests.support.training.runs import (
    STUDENT,
    has_epoch,
    read_metric_values,
    read_records,
    write_command,
)

TIMEOUT_S = 150
EPOCHS = 4
STEPS_AN_EPOCH = 3


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=24, val=4)


@pytest.mark.slow
def test_a_lost_process_ends_the_attempt_and_fewer_go_on_from_the_last_checkpoint(
    digits: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    driver = subprocess.Popen(write_command(make_group_spec(digits), run_dir))
    wait_for(lambda: has_epoch(run_dir, 2), driver)

    find_other_process(driver, run_dir).kill()

    assert driver.wait(TIMEOUT_S) == ExitCode.INTERRUPTED
    (first,) = read_outcomes(run_dir)
    assert (first["result"], first["reason"]) == ("failed", "node_lost")
    assert "rank 1" in first["message"]
    fewer = [*write_command(make_group_spec(digits), run_dir, attempt=2), "--processes", "1"]
    assert subprocess.run(fewer, timeout=TIMEOUT_S, check=False).returncode == 0
    assert [outcome["result"] for outcome in read_outcomes(run_dir)] == ["failed", "succeeded"]
    steps = sorted(step for key, step in read_metric_values(run_dir) if key == Metric.LOSS)
    assert steps == [epoch * STEPS_AN_EPOCH for epoch in range(1, EPOCHS + 1)]


@pytest.mark.slow
def test_sigterm_makes_all_processes_leave_with_a_checkpoint(digits: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    driver = subprocess.Popen(write_command(make_group_spec(digits, epochs=500), run_dir))
    wait_for(lambda: has_epoch(run_dir, 2), driver)
    members = find_members(driver)

    driver.send_signal(signal.SIGTERM)

    assert driver.wait(30) == ExitCode.INTERRUPTED
    (last,) = read_outcomes(run_dir)
    assert (last["result"], last["reason"]) == ("failed", "preempted")
    assert list((run_dir / "checkpoints").glob("step-*.pth"))
    psutil.wait_procs(members, timeout=10)
    assert not [member for member in members if member.is_running()]


@pytest.mark.slow
def test_processes_that_hang_are_ended_soon_after_sigterm(digits: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    driver = subprocess.Popen(write_command(make_group_spec(digits, epochs=500), run_dir))
    wait_for(lambda: has_epoch(run_dir, 2), driver)
    members = find_members(driver)
    find_other_process(driver, run_dir).send_signal(signal.SIGSTOP)

    driver.send_signal(signal.SIGTERM)

    assert driver.wait(40) == ExitCode.INTERRUPTED
    (last,) = read_outcomes(run_dir)
    assert (last["result"], last["reason"]) == ("failed", "preempted")
    assert "did not stop" in last["message"]
    psutil.wait_procs(members, timeout=10)
    assert not [member for member in members if member.is_running()]


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["first", "another"])
def test_a_frozen_process_is_found_by_the_other_that_waits_for_it(
    digits: Path, tmp_path: Path, frozen: str
) -> None:
    run_dir = tmp_path / "run"
    arguments = [
        *write_command(make_group_spec(digits, epochs=500), run_dir),
        "--stall-timeout",
        "5",
    ]
    driver = subprocess.Popen(arguments)
    wait_for(lambda: has_epoch(run_dir, 2), driver)
    members = find_members(driver)
    other = find_other_process(driver, run_dir)
    (first,) = [member for member in members if member != other]

    (first if frozen == "first" else other).suspend()

    assert driver.wait(60) == ExitCode.INTERRUPTED
    (last,) = read_outcomes(run_dir)
    assert (last["result"], last["reason"]) == ("failed", "stalled")
    logs = [file.read_text() for file in (run_dir / "logs").glob("*.log")]
    assert sum("Stacks of all threads" in text for text in logs) == 1
    psutil.wait_procs(members, timeout=10)
    assert not [member for member in members if member.is_running()]


@pytest.mark.slow
def test_an_error_of_one_process_is_reported_and_not_retried(tmp_path: Path) -> None:
    digits = write_digits(tmp_path / "digits", train=24, val=4)
    next((digits / "images" / "train").iterdir()).write_bytes(b"no picture")

    code = subprocess.run(
        write_command(make_group_spec(digits), tmp_path / "run"), timeout=TIMEOUT_S, check=False
    ).returncode

    (last,) = read_outcomes(tmp_path / "run")
    assert code == ExitCode.REFUSED
    assert (last["result"], last["reason"]) == ("failed", "bug")


def make_group_spec(digits: Path, *, epochs: int = EPOCHS) -> dict[str, Any]:
    return {
        "student": STUDENT,
        "data": {
            "dataset": {"root": str(digits)},
            "image_size": [96, 96],
            "batch_size": 8,
            "num_workers": 0,
        },
        "schedule": {"epochs": epochs, "optimizer": {"kind": "adamw", "lr": 2e-3}},
        "evaluation": {"pictures": 1, "batch_size": 4},
        "resources": {"processes": 2, "min_processes": 1},
    }


def find_members(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    family = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in family if "RayTrainWorker" in " ".join(process.cmdline())]


def find_other_process(driver: subprocess.Popen[bytes], run_dir: Path) -> psutil.Process:
    """A training process that is not the main process."""
    first = next(record["pid"] for record in read_records(run_dir) if record["kind"] == "started")
    (other,) = [process for process in find_members(driver) if process.pid != first]
    return other


def read_outcomes(run_dir: Path) -> list[dict[str, Any]]:
    return [record for record in read_records(run_dir) if record["kind"] == "outcome"]


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert driver.poll() is None, "it ended too early"
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)
