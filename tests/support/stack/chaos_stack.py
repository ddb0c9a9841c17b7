"""A stack of its own, runs on it, faults, and what became of both, in figures."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from configs.metric_keys import Metric
from configs.protocol.names import Env
from service.api.schemas.runs import RunRequest, RunView
from service.client import ServiceUnreachable, TandemApiError, TandemClient
from service.domain.states import RunState
from tests.support.stack.mlflow_runs import tracked_run, tracked_steps
from tests.support.stack.quick_preset import said_steps
from tests.support.stack.shell import Shell

PATIENCE_S = 420.0
BROKEN = "digits-broken"
"""A dataset whose images were damaged after it was registered."""

_LOOK_EVERY_S = 0.2
_FINAL = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "KILLED",
}


@dataclass
class Act:
    """One case: what was done to which runs, and what came of it."""

    title: str
    faults: int = 0
    runs: list[str] = field(default_factory=list)
    lost: int = 0
    """Runs that did not come to the end they should have."""

    doubled: int = 0
    """Metric points beyond one at a step, with us or in MLflow."""

    missing: int = 0
    """Metric points that should be there and are not."""

    recovered_s: float | None = None
    """From the last fault to the next sign that a run goes on, its own pause included."""

    _fault_at_s: float = 0.0

    def fault(self) -> None:
        """Count one more."""
        self.faults += 1
        self._fault_at_s = time.monotonic()

    def back(self) -> None:
        """A run goes on."""
        self.recovered_s = round(time.monotonic() - self._fault_at_s, 1)


@dataclass
class Theatre:
    """Where the acts are played."""

    shell: Shell
    client: TandemClient
    small_disk: Path
    """A file system of its own with the folders of all runs, so that it can be filled."""

    acts: list[Act]

    @contextmanager
    def act(self, title: str) -> Iterator[Act]:
        """A case; afterwards every process of its attempts is gone."""
        act = Act(title)
        self.acts.append(act)
        yield act
        assert (act.lost, act.doubled, act.missing) == (0, 0, 0), act
        when(lambda: not any(map(attempt_processes, act.runs)), patience_s=60)

    def launch(self, act: Act, *, epochs: int = 6, **changes: Any) -> str:
        """A run of an instant student."""
        wanted = {"schedule.epochs": epochs, "checkpoints.every_steps": 5, **changes}
        request = RunRequest(preset="quick/instant", changes=wanted, name=act.title[:60])
        run = self.client.launch(request)
        act.runs.append(run.id)
        return run.id

    def run(self, run_id: str) -> RunView | None:
        """The run; none while the service does not answer."""
        try:
            return self.client.run(run_id)
        except (ServiceUnreachable, TandemApiError):
            return None

    def when(self, run_id: str, is_so: Callable[[RunView], bool]) -> RunView:
        """The run as soon as it is as wanted."""
        found: list[RunView] = []

        def look() -> bool:
            run = self.run(run_id)
            if run is not None and is_so(run):
                found.append(run)
            return bool(found)

        when(look)
        return found[0]

    def when_training(self, run_id: str, *, step: int = 6) -> RunView:
        """The run as soon as it has trained so far."""
        return self.when(run_id, lambda run: steps_of(run) >= step)

    def recovers(self, act: Act, run_id: str, *, since: RunView) -> None:
        """Measure how long it takes until the same attempt is beyond where it was."""
        self.when(run_id, lambda run: run.is_over or steps_of(run) > steps_of(since))
        act.back()

    def starts_again(self, act: Act, run_id: str, *, attempt: int) -> None:
        """Measure how long it takes until another attempt than this one trains on."""
        self.when(run_id, lambda run: run.progress is not None and run.progress.attempt > attempt)
        act.back()

    def ends(
        self, act: Act, run_id: str, *, epochs: int = 6, state: RunState = RunState.SUCCEEDED
    ) -> RunView:
        """The run when it is over; what is wrong with it is counted."""
        ended = self.when(run_id, lambda run: run.is_over)
        act.lost += ended.state is not state
        when(lambda: self._status(run_id) == _FINAL[ended.state])
        wanted = said_steps(epochs)
        ours = [point.step for point in self.client.metrics(run_id, key=Metric.LOSS)]
        theirs = tracked_steps(self.shell.mlflow_url, run_id, Metric.LOSS)
        for steps in (ours, theirs):
            act.doubled += len(steps) - len(set(steps))
            if state is RunState.SUCCEEDED:
                act.missing += len(set(wanted) - set(steps))
        act.missing += len(set(ours) ^ set(theirs))
        return ended

    def kill(self, part: str) -> None:
        """End a part of the stack without a word, with all that it started itself."""
        pid = self.shell.parts()[part]["pid"]
        family = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        if part != "service":
            for process in family:
                with _gone_is_fine():
                    process.kill()

    @contextmanager
    def another_node(self) -> Iterator[Callable[[], None]]:
        """A second node of Ray with one core; what is given takes it away without a word."""
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

        def lose() -> None:
            root = psutil.Process(node.pid)
            for process in [*root.children(recursive=True), root]:
                with _gone_is_fine():
                    process.kill()

        try:
            yield lose
        finally:
            if node.poll() is None:
                lose()
            node.wait()

    def up(self) -> None:
        """Start what is missing."""
        self.shell.does("up")

    def _status(self, run_id: str) -> str:
        return str(tracked_run(self.shell.mlflow_url, run_id).info.status)


def when(is_so: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Wait until it is so."""
    deadline_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(_LOOK_EVERY_S)


def steps_of(run: RunView) -> int:
    """How far it has trained."""
    return 0 if run.progress is None else run.progress.step


def attempt_processes(run_id: str) -> list[psutil.Process]:
    """Living processes of any attempt of a run, loaders included."""
    found = []
    for process in psutil.process_iter():
        with _gone_is_fine():
            is_ours = process.environ().get(Env.ATTEMPT, "").startswith(f"{run_id}-a")
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def trainer_of(run_id: str) -> psutil.Process:
    """The process that trains."""
    for process in attempt_processes(run_id):
        with _gone_is_fine():
            words = process.cmdline()
            if run_id in words and any(word.endswith("tandem-worker") for word in words[:3]):
                return process
    raise psutil.NoSuchProcess(0, msg=f"no trainer of {run_id}")


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except (psutil.Error, OSError):
        return
