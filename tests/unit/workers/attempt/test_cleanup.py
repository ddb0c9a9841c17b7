"""Processes of finished attempts on a node are terminated, and no others."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import psutil
import pytest

from configs.protocol.names import Env, ExitCode
from configs.spec.base import Task
from tests.support.waiting import wait_until
from tests.support.workers.fake_service import FakeService, Response, serve
from workers.attempt.cleanup import clean_up_node, end_earlier_attempts
from workers.process.node import (
    filter_earlier_attempts,
    find_attempt_processes,
    submission_id,
    terminate_processes,
)

WORKER = Path(sys.executable).parent / "tandem-worker"
SLEEPS = "import os, time; os.write(1, b'ready\\n'); time.sleep(600)"
IGNORES_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"
FORKS = f"import os; os.fork(); {SLEEPS}"

wait_for = partial(wait_until, timeout_s=5, interval_s=0.02)


@dataclass
class Node:
    """Processes with the environment of attempts."""

    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(
        self, script: str, *arguments: str, attempt: str | None = None, num_lines: int = 1
    ) -> psutil.Process:
        env = {key: value for key, value in os.environ.items() if key != Env.ATTEMPT}
        env |= {} if attempt is None else {str(Env.ATTEMPT): attempt}
        process = subprocess.Popen(
            [sys.executable, *arguments, script] if arguments[:1] == ("-c",) else [*arguments],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
        )
        self.started.append(process)
        assert process.stdout is not None
        for _ in range(num_lines):
            assert process.stdout.readline() == "ready\n"
        return psutil.Process(process.pid)

    def sleeper(
        self, attempt: str | None, script: str = SLEEPS, num_lines: int = 1
    ) -> psutil.Process:
        return self.start(script, "-c", attempt=attempt, num_lines=num_lines)

    def worker(self, folder: Path, *arguments: str) -> psutil.Process:
        """Start a process with the command line of `tandem-worker` and a fork, like a loader."""
        program = folder / "tandem-worker"
        program.write_text(FORKS)
        return self.start("", sys.executable, str(program), *arguments, num_lines=2)


@pytest.fixture
def node() -> Iterator[Node]:
    started_node = Node()
    yield started_node
    for process in started_node.started:
        for child in find_children(process.pid):
            child.kill()
        process.kill()
        process.communicate()


@dataclass
class CleanupService(FakeService):
    """Responds with the attempts that have finished."""

    finished: tuple[str, ...] = ()
    queried: list[str] = field(default_factory=list)

    def respond(self, path: str, body: bytes, authorization: str | None) -> Response:
        if self.script or (self.token is not None and authorization != f"Bearer {self.token}"):
            return super().respond(path, body, authorization)
        assert path == "/v1/attempts:over"
        self.queried += json.loads(body)["attempts"]
        return Response(200, json.dumps({"finished": list(self.finished)}))


@pytest.fixture
def service() -> Iterator[CleanupService]:
    started_node = CleanupService()
    with serve(started_node):
        yield started_node


def run_id() -> str:
    """A run id that nothing else on this machine uses."""
    return f"r{time.monotonic_ns():012x}"[:13]


def test_only_attempts_that_have_finished_are_terminated(
    node: Node, service: CleanupService
) -> None:
    run, messages = run_id(), list[str]()
    finished = [node.sleeper(f"{run}-a1"), node.sleeper(f"{run}-a1")]
    running = [node.sleeper(f"{run}-a2"), node.sleeper(None)]
    service.finished = (f"{run}-a1", "r-of-another-node-a7")

    assert clean_up_node(service.url, notify=messages.append) is ExitCode.SUCCEEDED

    assert have_exited(finished)
    assert all(is_alive(process) for process in running)
    assert {f"{run}-a1", f"{run}-a2"} <= set(service.queried)
    assert messages == [
        f"Terminated {run}-a1: processes {', '.join(sorted(str(p.pid) for p in finished))}."
    ]


def test_forks_of_an_attempt_end_with_it(node: Node, service: CleanupService) -> None:
    run = run_id()
    parent = node.sleeper(f"{run}-a1", FORKS, num_lines=2)
    family = [parent, *find_children(parent.pid)]
    assert len(family) == 2
    service.finished = (f"{run}-a1",)

    clean_up_node(service.url)

    assert have_exited(family)


@pytest.mark.parametrize("numbered", [("--attempt", "3"), ("--attempt=3",)])
def test_an_attempt_without_its_environment_is_known_by_its_command_line(
    node: Node, service: CleanupService, tmp_path: Path, numbered: tuple[str, ...]
) -> None:
    run = run_id()
    parent = node.worker(tmp_path, "train", "--spec", "s.json", "--run-id", run, *numbered)
    family = [parent, *find_children(parent.pid)]
    service.finished = (f"{run}-a3",)

    clean_up_node(service.url)

    assert have_exited(family)


def test_every_kind_of_job_is_known_by_its_command_line(node: Node, tmp_path: Path) -> None:
    runs = {task: run_id() for task in get_args(Task)}
    pack = run_id()
    for task, run in runs.items():
        node.worker(tmp_path, task, "--run-id", run, "--attempt", "2")
    node.worker(tmp_path, "train-pack", f"/runs/r1/packs/{pack}.json")

    attempts = find_attempt_processes()

    assert {f"{run}-a2" for run in runs.values()} | {pack} <= attempts.keys()


@pytest.mark.parametrize("arguments", [("flush", "--run-id", "RUN"), ("train", "--run-dir", "RUN")])
def test_other_commands_and_runs_without_an_id_are_no_attempts(
    node: Node, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    run = run_id()
    process = node.worker(tmp_path, *(argument.replace("RUN", run) for argument in arguments))

    attempts = [name for name in find_attempt_processes() if name.startswith(run)]

    assert attempts == []
    assert is_alive(process)


def test_a_stopped_process_and_one_that_ignores_sigterm_are_terminated(node: Node) -> None:
    frozen, unresponsive = node.sleeper(None), node.sleeper(None, IGNORES_SIGTERM)
    frozen.suspend()

    exited = terminate_processes([frozen, unresponsive], grace_period_s=0.5)

    assert have_exited([frozen, unresponsive])
    assert (exited.ended, exited.unkillable) == ((frozen.pid, unresponsive.pid), ())


def test_an_excluded_attempt_is_not_queried(node: Node, service: CleanupService) -> None:
    run = run_id()
    excluded = node.sleeper(f"{run}-a1")
    service.finished = (f"{run}-a1",)

    clean_up_node(service.url, exclude=[f"{run}-a1"])

    assert is_alive(excluded)
    assert f"{run}-a1" not in service.queried


@pytest.mark.parametrize(
    "response",
    [Response(503), Response(404), Response(200, "<html>"), Response(200, '{"all": true}')],
)
def test_nothing_is_terminated_without_an_answer(
    node: Node, service: CleanupService, response: Response
) -> None:
    process = node.sleeper(f"{run_id()}-a1")
    service.script = [response]

    assert clean_up_node(service.url) is ExitCode.INTERRUPTED

    assert is_alive(process)


def test_nothing_is_terminated_without_the_service(node: Node) -> None:
    process = node.sleeper(f"{run_id()}-a1")
    with serve(CleanupService()) as stopped_service:
        url = stopped_service.url

    assert clean_up_node(url) is ExitCode.INTERRUPTED
    assert is_alive(process)


def test_the_command_and_its_parent_are_not_terminated(
    node: Node, service: CleanupService, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_id()
    service.finished = (f"{run}-a1",)
    monkeypatch.setenv(Env.ATTEMPT, f"{run}-a1")
    arguments = [str(WORKER), "cleanup", "--service-url", service.url]
    parent = (
        "import subprocess, sys; "
        f"sys.exit(subprocess.run({arguments!r}, env={{**__import__('os').environ}}).returncode)"
    )

    result = subprocess.run([sys.executable, "-c", parent], text=True, check=False)

    assert result.returncode == 0


def test_the_command_sends_the_token_and_prints_what_it_terminated(
    node: Node, service: CleanupService, tmp_path: Path
) -> None:
    run, file = run_id(), tmp_path / "token"
    process = node.sleeper(f"{run}-a1")
    service.token, service.finished = "secret", (f"{run}-a1",)
    file.write_text("secret\n")
    arguments = [str(WORKER), "cleanup", "--service-url", service.url]

    unauthorized = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert unauthorized.returncode == ExitCode.INTERRUPTED
    assert is_alive(process)
    result = subprocess.run(
        [*arguments, "--token-file", str(file)], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0
    assert result.stdout == f"Terminated {run}-a1: process {process.pid}.\n"
    assert "secret" not in result.stdout + result.stderr + unauthorized.stdout + unauthorized.stderr


def test_an_attempt_terminates_processes_of_earlier_ones_of_its_run(node: Node) -> None:
    run, other = run_id(), run_id()
    earlier = [node.sleeper(f"{run}-a1"), node.sleeper(f"{run}-a2")]
    running = [node.sleeper(name) for name in (f"{run}-a3", f"{run}-a10", f"{other}-a1")]

    end_earlier_attempts(run, attempt=3)

    assert have_exited(earlier)
    assert all(is_alive(process) for process in running)


def test_attempts_are_compared_as_numbers() -> None:
    names = ["r1-a1", "r1-a2", "r1-a10", "r1-a9-ship1", "r12-a1", "r1", "x"]

    assert filter_earlier_attempts(names, run_id="r1", attempt=10) == ["r1-a1", "r1-a2"]
    assert submission_id("r1", 2) == "r1-a2"


def find_children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def have_exited(processes: list[psutil.Process]) -> bool:
    wait_for(lambda: not any(is_alive(process) for process in processes))
    return True


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
