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
from tests.support.waiting import wait_until
from workers.attempt.files import AttemptFiles
from workers.attempt.watchdog import Watchdog
from workers.telemetry.heartbeat import Heartbeat

ROOT = Path(__file__).parents[4]
TIMEOUT_S = 120.0

wait_for = partial(wait_until, timeout_s=TIMEOUT_S)

BEATING = """
import sys, time
from workers.telemetry.heartbeat import Heartbeat
from workers.attempt.watchdog import Watchdog

heartbeat = Heartbeat()
heartbeat.beat("training")
def stalled(message):
    print(message, flush=True)
Watchdog(heartbeat, stall_timeout_s=0.5, on_stall=stalled).start()
print("ready", flush=True)
until_s = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until_s:
    heartbeat.beat()
    time.sleep(0.02)
"""

HANGING = """
import multiprocessing, os, sys, time
from pathlib import Path
from workers.attempt.files import AttemptFiles, FailureReporter
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.reporter import SpoolReporter
from workers.attempt.watchdog import watch_for_stalls
from tests.support.workers.records import make_run_spec

run_dir, who = Path(sys.argv[1]), sys.argv[2]
(run_dir / "logs").mkdir(exist_ok=True)

def collective_that_never_returns():
    time.sleep(1000)

if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=collective_that_never_returns).start()
    if who == "first":
        identity = AttemptIdentity(run_id="r1")
        reporter = SpoolReporter.open(run_dir, identity=identity, spec=make_run_spec())
    else:
        reporter = FailureReporter(AttemptFiles(run_dir, attempt=1))
    reporter.heartbeat.beat("training")
    with watch_for_stalls({run_dir / "logs" / "attempt-1.log": reporter}, stall_timeout_s=0.4):
        collective_that_never_returns()
"""


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


def test_a_process_that_was_stopped_and_goes_on_is_not_stalled() -> None:
    with start_process(BEATING, "3") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(2):
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.2)
            process.send_signal(signal.SIGCONT)

        output, _ = process.communicate(timeout=TIMEOUT_S)

    assert output == ""
    assert process.returncode == 0


def test_a_stall_leaves_stacks_and_a_reason_but_no_process(tmp_path: Path) -> None:
    with start_process(HANGING, str(tmp_path), "first") as process:
        family = start_with_children(process)

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
    with start_process(HANGING, str(tmp_path), "another") as process:
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


def start_with_children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    wait_for(lambda: bool(parent.children()))
    return [parent, *parent.children(recursive=True)]


def read_outcomes(run_dir: Path) -> list[dict[str, str]]:
    lines = (run_dir / RunFile.SPOOL).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [record for record in records if record["kind"] == Outcome.model_fields["kind"].default]
