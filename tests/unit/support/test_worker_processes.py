"""Forks of `tandem-worker` behave like new processes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.support.training.worker_processes import (
    run_worker,
    run_worker_captured,
    start_function,
    start_worker,
)

TIMEOUT_S = 240


def test_a_fork_says_what_the_command_says_and_ends_with_its_code(tmp_path: Path) -> None:
    failed = run_worker_captured("train", "--spec", str(tmp_path / "none"), timeout_s=TIMEOUT_S)
    help_result = run_worker_captured("--help", timeout_s=TIMEOUT_S)

    assert (failed.returncode, failed.stdout) == (2, "")
    assert "--spec" in failed.stderr
    assert help_result.returncode == 0
    assert "Train one run" in help_result.stdout


def test_a_fork_has_the_environment_and_the_folder_of_whoever_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")

    narrow = run_worker_captured("flush", "--run-dir", "run", timeout_s=TIMEOUT_S)
    help_result = run_worker_captured("--help", timeout_s=TIMEOUT_S)

    assert "run" in narrow.stdout + narrow.stderr
    assert max(len(line) for line in help_result.stdout.splitlines()) <= 60


def test_a_fork_is_a_process_that_signals_reach(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spec")
    arguments = ("train", "--spec", str(tmp_path / "spec"), "--run-dir", str(tmp_path / "run"))
    process = start_worker(*arguments)  # it waits for somebody to write its spec
    assert process.pid != os.getpid()
    assert psutil.pid_exists(process.pid)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)

    process.kill()

    assert process.wait(TIMEOUT_S) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL
    process.terminate()  # of a process that has ended: nothing


def test_a_function_is_called_in_a_fork_and_its_error_is_an_exit_code(tmp_path: Path) -> None:
    codes = [start_function(os.mkdir, str(tmp_path / "made")).wait(TIMEOUT_S) for _ in range(2)]

    assert codes == [0, 1]
    assert (tmp_path / "made").is_dir()


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spec")
    arguments = ("train", "--spec", str(tmp_path / "spec"), "--run-dir", str(tmp_path / "run"))
    start_s = time.monotonic()

    with pytest.raises(subprocess.TimeoutExpired):
        run_worker(*arguments, timeout_s=0.1)

    assert time.monotonic() - start_s < TIMEOUT_S
