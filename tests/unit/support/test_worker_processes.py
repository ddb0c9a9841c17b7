"""Forks of `tandem-worker` behave as processes that were started anew."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.support.training.worker_processes import (
    output_of_worker,
    run_worker,
    start_function,
    start_worker,
)

PATIENCE_S = 240


def test_a_fork_says_what_the_command_says_and_ends_with_its_code(tmp_path: Path) -> None:
    refused = output_of_worker("train", "--spec", str(tmp_path / "none"), timeout_s=PATIENCE_S)
    helped = output_of_worker("--help", timeout_s=PATIENCE_S)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--spec" in refused.stderr
    assert helped.returncode == 0
    assert "Train one run" in helped.stdout


def test_a_fork_has_the_environment_and_the_folder_of_whoever_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")

    narrow = output_of_worker("flush", "--run-dir", "run", timeout_s=PATIENCE_S)
    helped = output_of_worker("--help", timeout_s=PATIENCE_S)

    assert "run" in narrow.stdout + narrow.stderr
    assert max(len(line) for line in helped.stdout.splitlines()) <= 60


def test_a_fork_is_a_process_that_signals_reach(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spec")
    words = ("train", "--spec", str(tmp_path / "spec"), "--run-dir", str(tmp_path / "run"))
    process = start_worker(*words)  # it waits for somebody to write its spec
    assert process.pid != os.getpid()
    assert psutil.pid_exists(process.pid)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)

    process.kill()

    assert process.wait(PATIENCE_S) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL
    process.terminate()  # of a process that has ended: nothing


def test_a_function_is_called_in_a_fork_and_its_error_is_an_exit_code(tmp_path: Path) -> None:
    codes = [start_function(os.mkdir, str(tmp_path / "made")).wait(PATIENCE_S) for _ in range(2)]

    assert codes == [0, 1]
    assert (tmp_path / "made").is_dir()


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spec")
    words = ("train", "--spec", str(tmp_path / "spec"), "--run-dir", str(tmp_path / "run"))
    began_s = time.monotonic()

    with pytest.raises(subprocess.TimeoutExpired):
        run_worker(*words, timeout_s=0.1)

    assert time.monotonic() - began_s < PATIENCE_S
