"""Trainers that hang, are suspended or are killed, and the processes they leave."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.protocol.names import Env, ExitCode, RunFile, attempt_log_path
from tests.support.training.digits import write_digits
from tests.support.training.runs import (
    TIMEOUT_S,
    make_spec,
    read_records,
    start,
    start_without_fork,
    write_command,
)
from tests.support.training.worker_processes import Process
from tests.support.workers.fake_service import FakeService, serve


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=24, val=4)


def start_with_loaders(digits: Path, *, workers: int, epochs: int = 500) -> dict[str, Any]:
    spec = make_spec(digits)
    return make_spec(
        digits,
        data=spec["data"] | {"num_workers": workers},
        schedule=spec["schedule"] | {"epochs": epochs},
    )


def test_a_hanging_loader_is_detected_and_stacks_are_logged(digits: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(digits, tmp_path / "digits"))
    image = next((torn / "images" / "train").iterdir())
    image.unlink()
    os.mkfifo(image)  # nobody ever writes to it
    run_dir = tmp_path / "run"

    process = start(start_with_loaders(torn, workers=1), run_dir, "--stall-timeout", "4")
    wait_for(lambda: bool(find_loaders(process)), process)
    loaders = find_loaders(process)

    assert process.wait(TIMEOUT_S) == ExitCode.INTERRUPTED
    last = read_records(run_dir)[-1]
    assert (last["kind"], last["result"], last["reason"]) == ("outcome", "failed", "stalled")
    log = (run_dir / attempt_log_path(1)).read_text()
    assert "Stacks of all threads" in log
    assert "dataloader.py" in log
    assert psutil.wait_procs(loaders, timeout=5)[1] == []


@pytest.mark.slow  # a killed run end to end has no process left either
def test_kill_9_leaves_no_loader(digits: Path, tmp_path: Path) -> None:
    process = start_without_fork(start_with_loaders(digits, workers=2), tmp_path / "run")
    wait_for(lambda: has_trained(tmp_path / "run") and len(find_loaders(process)) == 2, process)
    loaders = find_loaders(process)
    environment = psutil.Process(process.pid).environ()

    process.kill()

    process.wait(TIMEOUT_S)
    assert psutil.wait_procs(loaders, timeout=2)[1] == []
    assert Env.ATTEMPT not in environment  # it is found by its command line, or its children's
    assert (tmp_path / "run" / RunFile.LOGS / "attempt-1.start.json").exists()


@pytest.mark.slow
def test_a_suspended_trainer_continues(digits: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = start(start_with_loaders(digits, workers=1), run_dir, "--stall-timeout", "5")
    wait_for(lambda: has_trained(run_dir), process)

    process.send_signal(signal.SIGSTOP)
    time.sleep(12)
    process.send_signal(signal.SIGCONT)
    num_records = len(read_records(run_dir))
    wait_for(lambda: len(read_records(run_dir)) > num_records + 2, process)

    process.terminate()
    assert process.wait(TIMEOUT_S) == ExitCode.INTERRUPTED
    assert read_records(run_dir)[-1]["reason"] == "preempted"


@pytest.mark.slow
def test_the_next_attempt_kills_the_processes_of_the_last_one_first(
    digits: Path, tmp_path: Path
) -> None:
    arguments = ["--run-id", f"r{time.monotonic_ns():012x}"[:13], "--service-url"]
    with serve(FakeService()) as service:
        spec = start_with_loaders(digits, workers=1, epochs=4)
        first = write_command(spec, tmp_path / "run")
        hung = subprocess.Popen([*first, *arguments, service.url])
        wait_for(lambda: has_trained(tmp_path / "run"), hung)
        hung.send_signal(signal.SIGSTOP)
        processes = [psutil.Process(hung.pid), *find_loaders(hung)]

        second = write_command(spec, tmp_path / "run", attempt=2)
        code = subprocess.run(
            [*second, *arguments, service.url], timeout=TIMEOUT_S, check=False
        ).returncode

    hung.wait(1)
    assert code == ExitCode.SUCCEEDED
    assert not [process for process in processes if process.is_running()]
    assert "Ended " in (tmp_path / "run" / attempt_log_path(2)).read_text()


def test_sigterm_to_all_processes_at_once_is_a_preemption_with_a_checkpoint(
    digits: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    process = start(start_with_loaders(digits, workers=2), run_dir)
    wait_for(lambda: has_trained(run_dir) and len(find_loaders(process)) == 2, process)

    for member in [psutil.Process(process.pid), *find_loaders(process)]:
        member.terminate()  # as Ray stops a job

    assert process.wait(TIMEOUT_S) == ExitCode.INTERRUPTED
    assert read_records(run_dir)[-1]["reason"] == "preempted"
    assert list((run_dir / RunFile.CHECKPOINTS).glob("step-*.pth"))


LEADS = (
    "import os; from workers.process.children import become_group_leader; "
    "become_group_leader(); print(os.getpgid(0))"
)


@pytest.mark.parametrize("has_session", [False, True], ids=["in a group", "as a job of Ray"])
def test_an_attempt_leads_a_group_unless_a_shell_leads_one_for_it(has_session: bool) -> None:
    arguments = f"{sys.executable} -c '{LEADS}'; true"
    shell = subprocess.Popen(
        ["sh", "-c", arguments],
        start_new_session=has_session,
        process_group=None if has_session else 0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    group = int(shell.communicate(timeout=TIMEOUT_S)[0])

    assert (group == shell.pid) == has_session


def find_loaders(process: Process) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def has_trained(run_dir: Path) -> bool:
    return any(r["kind"] == "progress" and r["phase"] == "training" for r in read_records(run_dir))


def wait_for(condition: Callable[[], bool], process: Process) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)
