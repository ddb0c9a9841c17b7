"""Detection of an out-of-memory kill, from the start record and the kernel's counter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.protocol.names import RunFile
from workers.process.oom import (
    StartRecord,
    find_oom_counter,
    oom_kill_message,
    oom_kills_since_start,
    write_start_record,
)

DEAD_PID = 2**22 + 1
"""A pid that no process has: Linux's maximum is 2^22."""


def write_counter(file: Path, num_kills: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"low 0\nhigh 0\noom_kill {num_kills}\n")
    return file


def write_mark(run_dir: Path, counter_file: Path, **changes: object) -> StartRecord:
    """Write the start record of attempt 1, with a counter of 2 kills and the pid of no process."""
    mark = write_start_record(run_dir, attempt=1)
    fields = {"pid": DEAD_PID, "counter": str(counter_file), "oom_kills": 2}
    updated = StartRecord.model_validate(mark.model_dump() | fields | changes)
    (run_dir / RunFile.LOGS / "attempt-1.start.json").write_text(updated.model_dump_json())
    return updated


@pytest.mark.parametrize(
    ("of_process", "file"),
    [
        ("0::/", "memory.events"),
        ("0::/user.slice/job", "user.slice/job/memory.events"),
        ("0::/the/hosts/path", "memory.events"),
        ("8:pids:/\n4:cpu,memory:/job", "memory/job/memory.oom_control"),
        ("4:memory:/the/hosts/path", "memory/memory.oom_control"),
    ],
)
def test_the_kernels_count_is_found(tmp_path: Path, of_process: str, file: str) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(of_process + "\n")
    counter = write_counter(tmp_path / "cgroup" / file, 0)

    assert find_oom_counter(proc=tmp_path / "proc", cgroups=tmp_path / "cgroup") == counter


def test_a_machine_without_a_count_says_nothing(tmp_path: Path) -> None:
    assert find_oom_counter(proc=tmp_path, cgroups=tmp_path) is None
    assert oom_kills_since_start(tmp_path, attempt=1) == 0
    assert oom_kill_message(tmp_path, attempt=1) is None


def test_an_attempt_that_the_kernel_ended_is_known(tmp_path: Path) -> None:
    write_mark(tmp_path, write_counter(tmp_path / "events", 3))

    assert "oom_kill rose from 2 to 3" in (oom_kill_message(tmp_path, attempt=1) or "")
    assert oom_kill_message(tmp_path, attempt=2) is None


@pytest.mark.parametrize(
    ("num_kills", "changes"),
    [
        (2, {}),
        (0, {}),
        (3, {"host": "elsewhere"}),
        (3, {"boot": "before"}),
        (3, {"counter": None}),
    ],
    ids=["nobody was killed", "the count began again", "elsewhere", "before a start", "no count"],
)
def test_what_is_no_proof_is_no_cause(
    tmp_path: Path, num_kills: int, changes: dict[str, object]
) -> None:
    write_mark(tmp_path, write_counter(tmp_path / "events", num_kills), **changes)

    assert oom_kill_message(tmp_path, attempt=1) is None


def test_a_process_that_lives_was_not_killed_and_hears_of_its_children(tmp_path: Path) -> None:
    mark = write_start_record(tmp_path, attempt=1)
    write_mark(
        tmp_path, write_counter(tmp_path / "events", 3), pid=os.getpid(), created=mark.created
    )

    assert oom_kill_message(tmp_path, attempt=1) is None
    assert oom_kills_since_start(tmp_path, attempt=1) == 1


def test_another_process_with_the_same_number_is_another_one(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        write_mark(tmp_path, write_counter(tmp_path / "events", 3), pid=other.pid, created=1.0)

        assert oom_kill_message(tmp_path, attempt=1) is not None
        other.communicate(b"\n")


def test_a_mark_that_was_cut_off_is_none(tmp_path: Path) -> None:
    write_mark(tmp_path, write_counter(tmp_path / "events", 3))
    (tmp_path / RunFile.LOGS / "attempt-1.start.json").write_text('{"host": "x')

    assert oom_kill_message(tmp_path, attempt=1) is None
