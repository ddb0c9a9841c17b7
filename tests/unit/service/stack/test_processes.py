"""Processes are recognised for certain, and end with all that they started."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from service.stack import processes
from service.stack.processes import MARK, Identity

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, time; "
    "subprocess.Popen(['sleep', '60'], start_new_session=True); "
    "print('started', flush=True); time.sleep(60)",
]


def _spawn(command: list[str], folder: Path, mark: str) -> Identity:
    return processes.spawn(
        command, env={**os.environ, MARK: mark}, folder=folder, log=folder / "logs" / "part.log"
    )


def _started(folder: Path) -> bool:
    return "started" in (folder / "logs" / "part.log").read_text()


def test_a_pid_file_brings_the_process_back(tmp_path: Path) -> None:
    identity = Identity(os.getpid(), psutil.Process().create_time())

    processes.remember(identity, tmp_path / "deep" / "part.json")

    assert processes.recall(tmp_path / "deep" / "part.json") == identity


@pytest.mark.parametrize("text", ["", "{}", "12", '{"pid": "x", "started_at": 1}', "[1, 2]"])
def test_a_broken_pid_file_is_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "part.json").write_text(text)

    assert processes.recall(tmp_path / "part.json") is None


def test_another_process_with_the_same_id_is_not_ours() -> None:
    ours = Identity(os.getpid(), psutil.Process().create_time())

    assert processes.living(ours) is not None
    assert processes.living(replace(ours, started_at=ours.started_at - 100)) is None


def test_a_process_that_ended_at_once_is_not_living(tmp_path: Path) -> None:
    identity = _spawn([sys.executable, "-c", "print('bye')"], tmp_path, "t:ended")

    assert processes.has_ended(identity, within_s=10)
    assert processes.living(identity) is None
    assert (tmp_path / "logs" / "part.log").read_text() == "bye\n"


def test_a_process_is_in_a_session_of_its_own_and_ends_when_asked(tmp_path: Path) -> None:
    identity = _spawn(SLEEP, tmp_path, "t:alone")

    assert os.getsid(identity.pid) == identity.pid
    assert not processes.has_ended(identity, within_s=0.05)
    assert processes.end(processes.family_of(identity, mark="t:alone"), patience_s=10) == []
    assert processes.living(identity) is None


def test_a_child_in_another_session_is_family_even_when_its_parent_was_killed(
    tmp_path: Path,
) -> None:
    identity = _spawn(PARENT, tmp_path, "t:orphan")
    while not _started(tmp_path):
        processes.has_ended(identity, within_s=0.05)
    processes.kill([psutil.Process(identity.pid)])

    orphans = processes.family_of(None, mark="t:orphan")

    assert len(orphans) == 1
    assert processes.in_other_sessions(orphans, identity.pid) == orphans
    assert processes.memory_bytes(orphans) > 0
    assert processes.kill(orphans) == []
    assert processes.marked("t:orphan") == []
