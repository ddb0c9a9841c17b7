"""Processes are identified by pid and start time, and end with their descendants."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from service.stack import processes
from service.stack.processes import MARKER_ENV, ProcessIdentity

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, time; "
    "subprocess.Popen(['sleep', '60'], start_new_session=True); "
    "print('started', flush=True); time.sleep(60)",
]


def _spawn(command: list[str], folder: Path, marker: str) -> ProcessIdentity:
    return processes.spawn(
        command,
        env={**os.environ, MARKER_ENV: marker},
        folder=folder,
        log=folder / "logs" / "component.log",
    )


def _has_started(folder: Path) -> bool:
    return "started" in (folder / "logs" / "component.log").read_text()


def test_a_pid_file_identifies_the_process(tmp_path: Path) -> None:
    identity = ProcessIdentity(os.getpid(), psutil.Process().create_time())

    processes.write_pid_file(identity, tmp_path / "deep" / "component.json")

    assert processes.read_pid_file(tmp_path / "deep" / "component.json") == identity


@pytest.mark.parametrize("text", ["", "{}", "12", '{"pid": "x", "started_at": 1}', "[1, 2]"])
def test_a_broken_pid_file_is_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "component.json").write_text(text)

    assert processes.read_pid_file(tmp_path / "component.json") is None


def test_another_process_with_the_same_pid_is_not_found() -> None:
    identity = ProcessIdentity(os.getpid(), psutil.Process().create_time())

    assert processes.find_process(identity) is not None
    assert processes.find_process(replace(identity, started_at=identity.started_at - 100)) is None


def test_a_process_that_has_ended_is_not_found(tmp_path: Path) -> None:
    identity = _spawn([sys.executable, "-c", "print('bye')"], tmp_path, "t:ended")

    assert processes.wait_for_exit(identity, timeout_s=10)
    assert processes.find_process(identity) is None
    assert (tmp_path / "logs" / "component.log").read_text() == "bye\n"


def test_a_process_has_its_own_session_and_can_be_terminated(tmp_path: Path) -> None:
    identity = _spawn(SLEEP, tmp_path, "t:session")

    assert os.getsid(identity.pid) == identity.pid
    assert not processes.wait_for_exit(identity, timeout_s=0.05)
    assert (
        processes.terminate(processes.find_process_tree(identity, marker="t:session"), timeout_s=10)
        == []
    )
    assert processes.find_process(identity) is None


def test_a_child_in_another_session_is_found_after_its_parent_was_killed(
    tmp_path: Path,
) -> None:
    identity = _spawn(PARENT, tmp_path, "t:orphan")
    while not _has_started(tmp_path):
        processes.wait_for_exit(identity, timeout_s=0.05)
    processes.kill([psutil.Process(identity.pid)])

    orphans = processes.find_process_tree(None, marker="t:orphan")

    assert len(orphans) == 1
    assert processes.filter_other_sessions(orphans, identity.pid) == orphans
    assert processes.sum_memory_bytes(orphans) > 0
    assert processes.kill(orphans) == []
    assert processes.find_marked_processes("t:orphan") == []
