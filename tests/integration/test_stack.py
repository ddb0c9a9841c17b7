"""The stack as a person meets it: `tandem up`, `status`, a killed service, `tandem down`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.stack.parts import PartName, ray_temp_dir
from service.stack.ports import free_port, is_free
from service.stack.processes import marked

pytestmark = pytest.mark.e2e

TANDEM = Path(sys.executable).parent / "tandem"
PATIENCE_S = 120


@dataclass(frozen=True)
class Shell:
    """A shell whose settings point to a stack of its own."""

    home: Path
    ports: dict[PartName, int]

    def tandem(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a command and returns what it said."""
        env = {
            **os.environ,
            "TANDEM_HOME": str(self.home),
            "TANDEM_PORT": str(self.ports[PartName.SERVICE]),
            "TANDEM_RAY_URL": f"http://127.0.0.1:{self.ports[PartName.RAY]}",
            "TANDEM_MLFLOW_URL": f"http://127.0.0.1:{self.ports[PartName.MLFLOW]}",
        }
        return subprocess.run(
            [str(TANDEM), *words],
            env=env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def parts(self) -> dict[str, dict[str, Any]]:
        """The parts as `tandem status --json` tells."""
        answer = self.tandem("status", "--json")
        return {part["name"]: part for part in json.loads(answer.stdout)["parts"]}

    def survivors(self) -> list[psutil.Process]:
        """Every process that a part of this stack has started and that still runs."""
        return [found for part in PartName for found in marked(f"{self.home}:{part}")]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(home=tmp_path / "home", ports={part: free_port() for part in PartName})
    yield made
    made.tandem("down")
    shutil.rmtree(ray_temp_dir(made.home), ignore_errors=True)


def test_a_stack_comes_up_heals_and_leaves_nothing_behind(shell: Shell) -> None:
    first = shell.tandem("up")
    assert first.returncode == 0, first.stderr + first.stdout
    started = shell.parts()
    assert {part["state"] for part in started.values()} == {"up"}
    assert all(part["memory_bytes"] > 0 and part["uptime_s"] >= 0 for part in started.values())

    refused = shell.tandem("run", "quick/instant", "data.flip=7")
    assert refused.returncode == 1
    assert "data.flip" in refused.stderr
    assert "Traceback" not in refused.stderr

    again = shell.tandem("up")
    assert again.stdout.count("already up") == len(PartName)
    assert {name: part["pid"] for name, part in shell.parts().items()} == {
        name: part["pid"] for name, part in started.items()
    }

    os.kill(started["service"]["pid"], signal.SIGKILL)
    assert shell.parts()["service"]["state"] == "dead"
    healed = shell.tandem("up")
    assert healed.returncode == 0, healed.stderr + healed.stdout
    after = shell.parts()
    assert after["service"]["state"] == "up"
    assert after["ray"]["pid"] == started["ray"]["pid"]

    down = shell.tandem("down")
    assert down.returncode == 0, down.stderr
    assert shell.survivors() == []
    assert all(is_free(port) for port in shell.ports.values())
    assert {part["state"] for part in shell.parts().values()} == {"down"}


def test_down_with_nothing_running_is_harmless(shell: Shell) -> None:
    answer = shell.tandem("down")

    assert answer.returncode == 0
    assert answer.stdout.count("not running") == len(PartName)


def test_a_taken_port_is_named_with_its_holder_and_its_setting(shell: Shell) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", shell.ports[PartName.RAY]))
        listener.listen()

        answer = shell.tandem("up")

    assert answer.returncode == 1
    words = " ".join(answer.stderr.split())
    assert str(shell.ports[PartName.RAY]) in words
    assert f"process {os.getpid()}" in words
    assert "TANDEM_RAY_URL" in words
    assert "Traceback" not in answer.stderr


def test_a_command_that_needs_the_service_says_how_to_start_it(shell: Shell) -> None:
    answer = shell.tandem("runs")

    assert answer.returncode == 1
    assert "tandem up" in answer.stderr
    assert "Traceback" not in answer.stderr
