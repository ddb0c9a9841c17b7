"""The stack by its commands: `tandem up`, `status`, a killed service, `tandem down`."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.stack.components import ComponentName
from service.stack.ports import is_port_free
from tests.support.stack.shell import Shell, open_shell

pytestmark = pytest.mark.e2e


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as stack_shell:
        yield stack_shell


def test_a_stack_comes_up_heals_and_leaves_nothing_behind(shell: Shell) -> None:
    first = shell.tandem("up")
    assert first.returncode == 0, first.stderr + first.stdout
    started = shell.components()
    assert {part["state"] for part in started.values()} == {"up"}
    assert all(part["memory_bytes"] > 0 and part["uptime_s"] >= 0 for part in started.values())

    refused = shell.tandem("run", "quick/instant", "data.flip=7")
    assert refused.returncode == 1
    assert "data.flip" in refused.stderr
    assert "Traceback" not in refused.stderr

    again = shell.tandem("up")
    assert again.stdout.count("already up") == len(ComponentName)
    assert {name: part["pid"] for name, part in shell.components().items()} == {
        name: part["pid"] for name, part in started.items()
    }

    os.kill(started["service"]["pid"], signal.SIGKILL)
    assert shell.components()["service"]["state"] == "dead"
    healed = shell.tandem("up")
    assert healed.returncode == 0, healed.stderr + healed.stdout
    after = shell.components()
    assert after["service"]["state"] == "up"
    assert after["ray"]["pid"] == started["ray"]["pid"]

    down = shell.tandem("down")
    assert down.returncode == 0, down.stderr
    assert shell.survivors() == []
    assert all(is_port_free(port) for port in shell.ports.values())
    assert {part["state"] for part in shell.components().values()} == {"down"}


@pytest.mark.slow  # test_access_control.py holds who comes in
def test_a_stack_for_others_comes_up_and_wants_a_token(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_AUTH", "tokens")
    monkeypatch.setenv("TANDEM_HOST", "0.0.0.0")
    monkeypatch.setenv("TANDEM_PUBLIC_URL", shell.url)
    monkeypatch.setenv("TANDEM_TOKEN_FILE", str(shell.home / "none"))
    created = shell.tandem("tokens", "create", "ada", "--role", "admin")
    assert created.returncode == 0, created.stderr

    monkeypatch.setenv("TANDEM_TOKEN", created.stdout.strip())
    up = shell.tandem("up")
    assert up.returncode == 0, up.stderr + up.stdout
    parts = shell.components()
    assert {part["state"] for part in parts.values()} == {"up"}
    assert shell.tandem("runs").returncode == 0
    for part in parts.values():
        assert "TANDEM_TOKEN" not in psutil.Process(part["pid"]).environ()

    monkeypatch.delenv("TANDEM_TOKEN")
    refused = shell.tandem("runs")
    assert (refused.returncode, "tandem tokens create" in refused.stderr) == (1, True)
    assert shell.tandem("status").returncode == 0
    assert shell.tandem("down").returncode == 0
    assert shell.survivors() == []


def test_down_with_nothing_running_is_harmless(shell: Shell) -> None:
    answer = shell.tandem("down")

    assert answer.returncode == 0
    assert answer.stdout.count("not running") == len(ComponentName)


def test_a_taken_port_is_named_with_its_holder_and_its_setting(shell: Shell) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", shell.ports[ComponentName.RAY]))
        listener.listen()

        answer = shell.tandem("up")

    assert answer.returncode == 1
    message = " ".join(answer.stderr.split())
    assert str(shell.ports[ComponentName.RAY]) in message
    assert f"process {os.getpid()}" in message
    assert "TANDEM_RAY_URL" in message
    assert "Traceback" not in answer.stderr


def test_a_command_that_needs_the_service_says_how_to_start_it(shell: Shell) -> None:
    answer = shell.tandem("runs")

    assert answer.returncode == 1
    assert "tandem up" in answer.stderr
    assert "Traceback" not in answer.stderr
