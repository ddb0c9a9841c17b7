"""The watchdog ends a process whose main loop hangs, but not one that was only stopped."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from configs.protocol.names import ExitCode, RunFile
from configs.protocol.records import Outcome
from tests.support.training.worker_processes import start_function
from tests.support.waiting import wait_until
from tests.support.workers import watched_loops
from workers.attempt.files import AttemptFiles
from workers.attempt.watchdog import Watchdog
from workers.telemetry.heartbeat import Heartbeat

ROOT = Path(__file__).parents[4]
TIMEOUT_S = 120.0

wait_for = partial(wait_until, timeout_s=TIMEOUT_S)


def start_process(script: str, *arguments: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], env=env, text=True, stdout=subprocess.PIPE
    )


def test_a_stall_is_reported_once() -> None:
    messages: list[str] = []
    heartbeat = Heartbeat()
    heartbeat.beat("training")
    watchdog = Watchdog(heartbeat, stall_timeout_s=0.1, on_stall=messages.append)

    watchdog.start()
    wait_for(lambda: bool(messages))
    time.sleep(0.3)

    assert len(messages) == 1
    assert "while training" in messages[0]
    assert heartbeat.last_beat_at.strftime("%H:%M:%S") in messages[0]


def test_beats_prevent_a_stall_and_so_does_stopping() -> None:
    messages: list[str] = []
    heartbeat = Heartbeat()
    heartbeat.beat("evaluating")
    watchdog = Watchdog(heartbeat, stall_timeout_s=0.3, on_stall=messages.append)

    watchdog.start()
    until_s = time.monotonic() + 1.0
    while time.monotonic() < until_s:
        heartbeat.beat()
        time.sleep(0.02)
    watchdog.stop()
    time.sleep(0.6)

    assert messages == []


@pytest.mark.parametrize("phase", ["preparing", "finishing"])
def test_what_comes_before_the_first_step_and_after_the_last_has_more_time(phase: str) -> None:
    has_stalled = threading.Event()
    heartbeat = Heartbeat()
    heartbeat.beat(phase)
    started_s = time.monotonic()

    Watchdog(heartbeat, stall_timeout_s=0.3, on_stall=lambda _: has_stalled.set()).start()

    assert has_stalled.wait(TIMEOUT_S)
    assert time.monotonic() - started_s > 0.8


def test_a_process_that_was_stopped_and_goes_on_is_not_stalled(tmp_path: Path) -> None:
    process = start_function(watched_loops.beat, str(tmp_path), "3")
    wait_for((tmp_path / "ready").exists)
    for _ in range(2):
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        process.send_signal(signal.SIGCONT)

    assert process.wait(TIMEOUT_S) == 0
    assert not (tmp_path / "stalled").exists()


def test_a_stall_leaves_stacks_and_a_reason_but_no_process(tmp_path: Path) -> None:
    process = start_function(watched_loops.hang_as_reporter, str(tmp_path))
    family = wait_for_children(process.pid)

    assert process.wait(TIMEOUT_S) == ExitCode.INTERRUPTED

    log_text = (tmp_path / "logs" / "attempt-1.log").read_text()
    assert "collective_that_never_returns" in log_text
    assert "No progress for" in log_text
    (last,) = read_outcomes(tmp_path)
    assert (last["result"], last["reason"]) == ("failed", "stalled")
    assert "while training" in last["message"]
    assert AttemptFiles(tmp_path, attempt=1).read_outcome() is not None
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_a_stalled_process_of_another_rank_records_its_failure(tmp_path: Path) -> None:
    process = start_function(watched_loops.hang_as_another_rank, str(tmp_path))

    assert process.wait(TIMEOUT_S) == ExitCode.INTERRUPTED

    failure = AttemptFiles(tmp_path, attempt=1).read_failure()
    assert failure is not None
    assert failure.reason == "stalled"
    assert not (tmp_path / RunFile.SPOOL).exists()


def test_a_crash_leaves_where_it_was_in_the_log(tmp_path: Path) -> None:
    script = (
        "import ctypes, sys; from pathlib import Path\n"
        "from workers.process.logs import enable_faulthandler\n"
        "def where_it_crashed(): ctypes.string_at(0)\n"
        "enable_faulthandler(Path(sys.argv[1])); where_it_crashed()"
    )
    log = tmp_path / "attempt-1.log"

    with start_process(script, str(log)) as process:
        assert process.wait(TIMEOUT_S) == -signal.SIGSEGV

    assert "Segmentation fault" in log.read_text()
    assert "where_it_crashed" in log.read_text()


def wait_for_children(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    wait_for(lambda: bool(parent.children()))
    return [parent, *parent.children(recursive=True)]


def read_outcomes(run_dir: Path) -> list[dict[str, str]]:
    lines = (run_dir / RunFile.SPOOL).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [record for record in records if record["kind"] == Outcome.model_fields["kind"].default]
