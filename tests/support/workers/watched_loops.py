"""Main loops under a watchdog, each for a process of its own."""

import multiprocessing
import time
from pathlib import Path

from tests.support.workers.records import make_run_spec
from workers.attempt.files import AttemptFiles, FailureReporter
from workers.attempt.watchdog import Watchdog, watch_for_stalls
from workers.telemetry.heartbeat import Heartbeat
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.reporter import SpoolReporter


def beat(folder: str, duration_s: str) -> None:
    """Send heartbeats for a while; `ready` in the folder is the start, `stalled` a stall."""
    heartbeat = Heartbeat()
    heartbeat.beat("training")
    stalled = Path(folder, "stalled")
    Watchdog(heartbeat, stall_timeout_s=0.5, on_stall=lambda _: stalled.touch()).start()
    Path(folder, "ready").touch()
    until_s = time.monotonic() + float(duration_s)
    while time.monotonic() < until_s:
        heartbeat.beat()
        time.sleep(0.02)


def hang_as_reporter(folder: str) -> None:
    """Hang as the process of a run that reports."""
    identity = AttemptIdentity(run_id="r1")
    _hang(Path(folder), SpoolReporter.open(Path(folder), identity=identity, spec=make_run_spec()))


def hang_as_another_rank(folder: str) -> None:
    """Hang as a process of a run that only records its failure."""
    _hang(Path(folder), FailureReporter(AttemptFiles(Path(folder), attempt=1)))


def _hang(run_dir: Path, reporter: SpoolReporter | FailureReporter) -> None:
    """Hang with a child; the log is that of the first attempt."""
    (run_dir / "logs").mkdir(exist_ok=True)
    multiprocessing.get_context("fork").Process(target=collective_that_never_returns).start()
    reporter.heartbeat.beat("training")
    with watch_for_stalls({run_dir / "logs" / "attempt-1.log": reporter}, stall_timeout_s=0.4):
        collective_that_never_returns()


def collective_that_never_returns() -> None:
    """Sleep; its name is in the stacks."""
    time.sleep(1000)
