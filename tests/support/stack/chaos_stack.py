"""A stack for chaos tests: it launches runs, injects faults and counts what was lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from configs.metric_keys import Metric
from configs.protocol.names import Env
from service.api.schemas.runs import RunRequest, RunView
from service.client import TandemClient
from service.client_transport import ServiceUnreachable, TandemApiError
from service.domain.states import RunState
from tests.support.stack.mlflow_runs import read_mlflow_status, read_mlflow_steps
from tests.support.stack.quick_preset import list_logged_steps
from tests.support.stack.shell import Shell
from tests.support.waiting import wait_until

TIMEOUT_S = 420.0
BROKEN = "digits-broken"
"""A dataset whose images were damaged after it was registered."""

_POLL_INTERVAL_S = 0.2
_MLFLOW_STATUS = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "KILLED",
}


wait_for = partial(wait_until, timeout_s=TIMEOUT_S, interval_s=_POLL_INTERVAL_S)


@dataclass
class ChaosResult:
    """The faults and runs of one test case, and what was lost."""

    title: str
    faults: int = 0
    runs: list[str] = field(default_factory=list)
    lost: int = 0
    """Runs that did not end in the expected state."""

    duplicates: int = 0
    """Metric points beyond the first of a step, in the service or in MLflow."""

    missing: int = 0
    """Expected metric points that do not exist."""

    recovered_s: float | None = None
    """From the last fault to the next progress of a run."""

    _fault_at_s: float = 0.0

    def count_fault(self) -> None:
        self.faults += 1
        self._fault_at_s = time.monotonic()

    def mark_recovered(self) -> None:
        self.recovered_s = round(time.monotonic() - self._fault_at_s, 1)


@dataclass
class ChaosStack:
    """A stack whose components a test can kill, and the results of all test cases."""

    shell: Shell
    client: TandemClient
    small_disk: Path
    """Mount point of a file system that holds only the folders of runs, and can be filled."""

    results: list[ChaosResult]

    @contextmanager
    def record_case(self, title: str) -> Iterator[ChaosResult]:
        """Collect the result of a test case, which must lose nothing and leave no process."""
        result = ChaosResult(title)
        self.results.append(result)
        yield result
        assert (result.lost, result.duplicates, result.missing) == (0, 0, 0), result
        wait_for(lambda: not any(map(find_attempt_processes, result.runs)), timeout_s=60)

    def launch(self, result: ChaosResult, *, epochs: int = 6, **changes: Any) -> str:
        """Launch a run of the preset quick/instant."""
        overrides = {"schedule.epochs": epochs, "checkpoints.every_steps": 5, **changes}
        request = RunRequest(preset="quick/instant", changes=overrides, name=result.title[:60])
        run = self.client.launch(request)
        result.runs.append(run.id)
        return run.id

    def run(self, run_id: str) -> RunView | None:
        """Get the run, or None while the service does not respond."""
        try:
            return self.client.run(run_id)
        except (ServiceUnreachable, TandemApiError):
            return None

    def wait_for_run(self, run_id: str, condition: Callable[[RunView], bool]) -> RunView:
        """Wait until the run meets the condition."""
        matching: list[RunView] = []

        def poll() -> bool:
            run = self.run(run_id)
            if run is not None and condition(run):
                matching.append(run)
            return bool(matching)

        wait_for(poll)
        return matching[0]

    def wait_for_step(self, run_id: str, *, step: int = 6) -> RunView:
        """Wait until the run has trained `step` steps."""
        return self.wait_for_run(run_id, lambda run: get_step(run) >= step)

    def measure_recovery(self, result: ChaosResult, run_id: str, *, since: RunView) -> None:
        """Measure the time until the run has trained more steps than `since`."""
        self.wait_for_run(run_id, lambda run: run.is_over or get_step(run) > get_step(since))
        result.mark_recovered()

    def measure_restart(self, result: ChaosResult, run_id: str, *, attempt: int) -> None:
        """Measure the time until a later attempt than `attempt` trains."""
        self.wait_for_run(
            run_id, lambda run: run.progress is not None and run.progress.attempt > attempt
        )
        result.mark_recovered()

    def check_end(
        self,
        result: ChaosResult,
        run_id: str,
        *,
        epochs: int = 6,
        state: RunState = RunState.SUCCEEDED,
    ) -> RunView:
        """Wait for the end of a run, and count lost runs, duplicates and missing points."""
        ended = self.wait_for_run(run_id, lambda run: run.is_over)
        result.lost += ended.state is not state
        status = _MLFLOW_STATUS[ended.state]
        wait_for(lambda: read_mlflow_status(self.shell.mlflow_url, run_id) == status)
        expected_steps = list_logged_steps(epochs)
        service_steps = [point.step for point in self.client.metrics(run_id, key=Metric.LOSS)]
        mlflow_steps = read_mlflow_steps(self.shell.mlflow_url, run_id, Metric.LOSS)
        for steps in (service_steps, mlflow_steps):
            result.duplicates += len(steps) - len(set(steps))
            if state is RunState.SUCCEEDED:
                result.missing += len(set(expected_steps) - set(steps))
        result.missing += len(set(service_steps) ^ set(mlflow_steps))
        return ended

    def kill(self, component: str) -> None:
        """Kill a component of the stack by SIGKILL; of all but the service, its children too."""
        pid = self.shell.components()[component]["pid"]
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        if component != "service":
            for process in children:
                with _ignore_ended_processes():
                    process.kill()

    @contextmanager
    def add_node(self) -> Iterator[Callable[[], None]]:
        """Add a Ray node with one core; yields a function that kills it."""
        ports = json.loads((self.shell.home / "stack" / "ports.json").read_text())
        token = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.shell.home / "ray/token"),
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = [
            *(str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1"),
            *(f"--address=127.0.0.1:{ports['gcs']}", "--disable-usage-stats"),
            *("--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"),
        ]
        with (self.shell.home / "logs" / "node.log").open("ab") as log:
            node = subprocess.Popen(
                command,
                env={**self.shell.env, **token, "PATH": path},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def kill_node() -> None:
            root = psutil.Process(node.pid)
            for process in [*root.children(recursive=True), root]:
                with _ignore_ended_processes():
                    process.kill()

        try:
            yield kill_node
        finally:
            if node.poll() is None:
                kill_node()
            node.wait()

    def start_missing(self) -> None:
        self.shell.run("up")


def get_step(run: RunView) -> int:
    return 0 if run.progress is None else run.progress.step


def find_attempt_processes(run_id: str) -> list[psutil.Process]:
    """Find the running processes of all attempts of a run, data loaders included."""
    processes = []
    for process in psutil.process_iter():
        with _ignore_ended_processes():
            is_of_run = process.environ().get(Env.ATTEMPT, "").startswith(f"{run_id}-a")
            if is_of_run and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def find_trainer(run_id: str) -> psutil.Process:
    for process in find_attempt_processes(run_id):
        with _ignore_ended_processes():
            arguments = process.cmdline()
            if run_id in arguments and any(
                word.endswith("tandem-worker") for word in arguments[:3]
            ):
                return process
    raise psutil.NoSuchProcess(0, msg=f"no trainer of {run_id}")


@contextmanager
def _ignore_ended_processes() -> Iterator[None]:
    try:
        yield
    except (psutil.Error, OSError):
        return
