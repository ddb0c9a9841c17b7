"""Commands around a stack that is down, refused, or open to others."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.stack.components import ComponentName, ray_temp_dir
from tests.support.stack.shell import Shell, open_shell

pytestmark = pytest.mark.e2e


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as stack_shell:
        yield stack_shell


@pytest.mark.slow  # access/test_control.py holds who comes in
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


def test_the_stack_of_a_failed_test_is_stopped(tmp_path: Path) -> None:
    folder = ray_temp_dir(tmp_path / "home").parent
    folder.mkdir(parents=True)

    with pytest.raises(RuntimeError), open_shell(tmp_path):
        raise RuntimeError

    assert not folder.exists()
