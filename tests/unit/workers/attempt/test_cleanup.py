"""What attempts that are over left on a node is ended, and nothing else."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from configs.protocol.names import Env, ExitCode
from tests.support.workers.fake_service import Answer, FakeService, serve
from workers.attempt.cleanup import clean_up_node, end_earlier_attempts
from workers.process.node import (
    filter_earlier_attempts,
    find_attempt_processes,
    submission_id,
    terminate_processes,
)

WORKER = Path(sys.executable).parent / "tandem-worker"
SLEEPS = "import os, time; os.write(1, b'ready\\n'); time.sleep(600)"
IS_DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"
FORKS = f"import os; os.fork(); {SLEEPS}"


@dataclass
class Node:
    """Processes that were started as attempts' are."""

    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(
        self, script: str, *words: str, attempt: str | None = None, ready: int = 1
    ) -> psutil.Process:
        env = {key: value for key, value in os.environ.items() if key != Env.ATTEMPT}
        env |= {} if attempt is None else {str(Env.ATTEMPT): attempt}
        process = subprocess.Popen(
            [sys.executable, *words, script] if words[:1] == ("-c",) else [*words],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
        )
        self.started.append(process)
        assert process.stdout is not None
        for _ in range(ready):
            assert process.stdout.readline() == "ready\n"
        return psutil.Process(process.pid)

    def sleeper(self, attempt: str | None, script: str = SLEEPS, ready: int = 1) -> psutil.Process:
        return self.start(script, "-c", attempt=attempt, ready=ready)

    def worker(self, folder: Path, *words: str) -> psutil.Process:
        """A process with the command line of `tandem-worker`, which forks as a loader does."""
        program = folder / "tandem-worker"
        program.write_text(FORKS)
        return self.start("", sys.executable, str(program), *words, ready=2)


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    for process in made.started:
        for child in children_of(process.pid):
            child.kill()
        process.kill()
        process.communicate()


@dataclass
class OverService(FakeService):
    """Says of attempts whether they are over."""

    over: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str, body: bytes, shown: str | None) -> Answer:
        if self.script or (self.token is not None and shown != f"Bearer {self.token}"):
            return super().answer(path, body, shown)
        assert path == "/v1/attempts:over"
        self.asked += json.loads(body)["attempts"]
        return Answer(200, json.dumps({"over": list(self.over)}))


@pytest.fixture
def service() -> Iterator[OverService]:
    made = OverService()
    with serve(made):
        yield made


def run_id() -> str:
    """One that no other test, nor person, on this machine uses."""
    return f"r{time.monotonic_ns():012x}"[:13]


def test_what_the_service_calls_over_is_ended_and_the_rest_lives(
    node: Node, service: OverService
) -> None:
    run, said = run_id(), list[str]()
    over = [node.sleeper(f"{run}-a1"), node.sleeper(f"{run}-a1")]
    alive = [node.sleeper(f"{run}-a2"), node.sleeper(None)]
    service.over = (f"{run}-a1", "r-of-another-node-a7")

    assert clean_up_node(service.url, notify=said.append) is ExitCode.SUCCEEDED

    assert gone(over)
    assert all(is_alive(process) for process in alive)
    assert {f"{run}-a1", f"{run}-a2"} <= set(service.asked)
    assert said == [f"Ended {run}-a1: processes {', '.join(sorted(str(p.pid) for p in over))}."]


def test_forks_of_an_attempt_end_with_it(node: Node, service: OverService) -> None:
    run = run_id()
    parent = node.sleeper(f"{run}-a1", FORKS, ready=2)
    family = [parent, *children_of(parent.pid)]
    assert len(family) == 2
    service.over = (f"{run}-a1",)

    clean_up_node(service.url)

    assert gone(family)


@pytest.mark.parametrize("numbered", [("--attempt", "3"), ("--attempt=3",)])
def test_an_attempt_without_its_environment_is_known_by_its_command_line(
    node: Node, service: OverService, tmp_path: Path, numbered: tuple[str, ...]
) -> None:
    run = run_id()
    parent = node.worker(tmp_path, "train", "--spec", "s.json", "--run-id", run, *numbered)
    family = [parent, *children_of(parent.pid)]
    service.over = (f"{run}-a3",)

    clean_up_node(service.url)

    assert gone(family)


@pytest.mark.parametrize("words", [("flush", "--run-id", "RUN"), ("train", "--run-dir", "RUN")])
def test_other_commands_and_runs_without_an_id_are_no_attempts(
    node: Node, tmp_path: Path, words: tuple[str, ...]
) -> None:
    run = run_id()
    process = node.worker(tmp_path, *(word.replace("RUN", run) for word in words))

    found = [name for name in find_attempt_processes() if name.startswith(run)]

    assert found == []
    assert is_alive(process)


def test_a_frozen_process_and_one_that_does_not_listen_end_as_well(node: Node) -> None:
    frozen, deaf = node.sleeper(None), node.sleeper(None, IS_DEAF)
    frozen.suspend()

    ended = terminate_processes([frozen, deaf], grace_period_s=0.5)

    assert gone([frozen, deaf])
    assert (ended.ended, ended.unkillable) == ((frozen.pid, deaf.pid), ())


def test_an_exception_is_not_even_asked_about(node: Node, service: OverService) -> None:
    run = run_id()
    spared = node.sleeper(f"{run}-a1")
    service.over = (f"{run}-a1",)

    clean_up_node(service.url, exclude=[f"{run}-a1"])

    assert is_alive(spared)
    assert f"{run}-a1" not in service.asked


@pytest.mark.parametrize(
    "answer", [Answer(503), Answer(404), Answer(200, "<html>"), Answer(200, '{"all": true}')]
)
def test_a_service_that_does_not_say_ends_nothing(
    node: Node, service: OverService, answer: Answer
) -> None:
    process = node.sleeper(f"{run_id()}-a1")
    service.script = [answer]

    assert clean_up_node(service.url) is ExitCode.INTERRUPTED

    assert is_alive(process)


def test_a_service_that_is_away_ends_nothing(node: Node) -> None:
    process = node.sleeper(f"{run_id()}-a1")
    with serve(OverService()) as gone_by:
        url = gone_by.url

    assert clean_up_node(url) is ExitCode.INTERRUPTED
    assert is_alive(process)


def test_the_tidier_and_whoever_started_it_are_spared(
    node: Node, service: OverService, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_id()
    service.over = (f"{run}-a1",)
    monkeypatch.setenv(Env.ATTEMPT, f"{run}-a1")
    words = [str(WORKER), "cleanup", "--service-url", service.url]
    parent = (
        "import subprocess, sys; "
        f"sys.exit(subprocess.run({words!r}, env={{**__import__('os').environ}}).returncode)"
    )

    answer = subprocess.run([sys.executable, "-c", parent], text=True, check=False)

    assert answer.returncode == 0


def test_the_command_shows_the_token_and_says_what_it_ended(
    node: Node, service: OverService, tmp_path: Path
) -> None:
    run, file = run_id(), tmp_path / "token"
    process = node.sleeper(f"{run}-a1")
    service.token, service.over = "secret", (f"{run}-a1",)
    file.write_text("secret\n")
    words = [str(WORKER), "cleanup", "--service-url", service.url]

    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert refused.returncode == ExitCode.INTERRUPTED
    assert is_alive(process)
    answer = subprocess.run(
        [*words, "--token-file", str(file)], capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0
    assert answer.stdout == f"Ended {run}-a1: process {process.pid}.\n"
    assert "secret" not in answer.stdout + answer.stderr + refused.stdout + refused.stderr


def test_an_attempt_ends_what_earlier_ones_of_its_run_left(node: Node) -> None:
    run, other = run_id(), run_id()
    earlier = [node.sleeper(f"{run}-a1"), node.sleeper(f"{run}-a2")]
    alive = [node.sleeper(name) for name in (f"{run}-a3", f"{run}-a10", f"{other}-a1")]

    end_earlier_attempts(run, attempt=3)

    assert gone(earlier)
    assert all(is_alive(process) for process in alive)


def test_attempts_are_compared_as_numbers() -> None:
    names = ["r1-a1", "r1-a2", "r1-a10", "r1-a9-ship1", "r12-a1", "r1", "x"]

    assert filter_earlier_attempts(names, run_id="r1", attempt=10) == ["r1-a1", "r1-a2"]
    assert submission_id("r1", 2) == "r1-a2"


def children_of(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> bool:
    wait_for(lambda: not any(is_alive(process) for process in processes))
    return True


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
