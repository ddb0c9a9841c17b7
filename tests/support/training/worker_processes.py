"""Start `tandem-worker` as a fork of a process that has imported torch and mmdet.

Importing them takes about 5 s of CPU time. A fork is a process with its own id, signals, output and
exit code, which runs the same `main`. It does not show how a new interpreter starts: the order of
imports, another hash seed, and the command line that the operating system reports. Tests of these
use `start_new_process`.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from tests.support.training.worker_server import MAX_REQUEST_BYTES

ROOT = Path(__file__).parents[3]
WORKER = Path(sys.executable).parent / "tandem-worker"


class ForkedProcess:
    """A fork of the server, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, command: str, *, pid: int, status_pipe: int) -> None:
        self.command = command
        self.pid = pid
        self.returncode: int | None = None
        self._status_pipe = status_pipe

    def poll(self) -> int | None:
        """Get the exit code, negative for a signal; None while the process runs."""
        return self._poll(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        code = self._poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.command, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _poll(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._status_pipe], [], [], timeout_s)[0]:
            self.returncode = int(os.read(self._status_pipe, 16))
            os.close(self._status_pipe)
        return self.returncode


Process = ForkedProcess | subprocess.Popen[bytes]


def start_worker(*arguments: str, stdout: int = 1, stderr: int = 2) -> Process:
    """Start `tandem-worker` in this process's environment and folder.

    Its output goes to the files with these descriptors.
    """
    if torch.cuda.is_available():  # CUDA's libraries are not made for forks
        return subprocess.Popen([str(WORKER), *arguments], stdout=stdout, stderr=stderr)
    return _fork({"argv": [str(WORKER), *arguments]}, stdout=stdout, stderr=stderr)


def start_function(function: Callable[..., None], *args: int | str) -> ForkedProcess:
    """Start a fork that calls a module-level function; an exception there is exit code 1."""
    name = {"module": function.__module__, "function": function.__name__}
    return _fork({**name, "arguments": args}, stdout=1, stderr=2)


def start_new_process(*arguments: str) -> subprocess.Popen[bytes]:
    """Start `tandem-worker` as a new process, like a user or Ray."""
    return subprocess.Popen([str(WORKER), *arguments])


def run_worker(*arguments: str, timeout_s: float) -> int:
    """Run `tandem-worker` and return its exit code; kill it after `timeout_s`."""
    process = start_worker(*arguments)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def run_worker_captured(*arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run `tandem-worker` and return its output and exit code."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = start_worker(*arguments, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


def _fork(command: dict[str, Any], *, stdout: int, stderr: int) -> ForkedProcess:
    request = command | {"environment": dict(os.environ), "folder": str(Path.cwd())}
    data = json.dumps(request).encode()
    assert len(data) < MAX_REQUEST_BYTES
    status_pipe, child_status_pipe = os.pipe()
    control = _start_server()
    socket.send_fds(control, [data], [stdout, stderr, child_status_pipe])
    os.close(child_status_pipe)
    return ForkedProcess(str(command), pid=int(control.recv(32)), status_pipe=status_pipe)


@cache
def _start_server() -> socket.socket:
    """Start the server; returns its socket, which is open until this process ends."""
    parent_socket, child_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.training.worker_server", str(child_socket.fileno())],
        cwd=ROOT,
        pass_fds=[child_socket.fileno()],
    )
    child_socket.close()

    def stop_server() -> None:
        parent_socket.close()
        server.kill()
        server.wait()

    atexit.register(stop_server)
    return parent_socket
