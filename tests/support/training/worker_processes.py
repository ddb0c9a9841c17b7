"""`tandem-worker` as a process, without the seconds that each new process spends on its imports.

Importing torch and mmdet takes about 5 s of CPU time, often more than what a test is about. A
process from here is a fork of one that has imported them: a process of its own with its own id,
signals, output and exit code, which runs the same `main`. What it does not show is the start of a
new interpreter, with the order of its imports and another hash seed: tests of that, and of what
the operating system says of a process, use `start_new_process`.
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

from tests.support.training.worker_server import LONGEST_REQUEST

ROOT = Path(__file__).parents[3]
WORKER = Path(sys.executable).parent / "tandem-worker"


class ForkedProcess:
    """A fork of the server's, with what tests use of `subprocess.Popen`."""

    def __init__(self, what: str, *, pid: int, status_pipe: int) -> None:
        self.what = what
        self.pid = pid
        self.returncode: int | None = None
        self._status_pipe = status_pipe

    def poll(self) -> int | None:
        """The exit code, negative for a signal; none while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it is there; `subprocess.TimeoutExpired` after `timeout` seconds."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.what, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._status_pipe], [], [], timeout_s)[0]:
            self.returncode = int(os.read(self._status_pipe, 16))
            os.close(self._status_pipe)
        return self.returncode


Process = ForkedProcess | subprocess.Popen[bytes]


def start_worker(*words: str, stdout: int = 1, stderr: int = 2) -> Process:
    """`tandem-worker` with these words, in this process's environment and folder.

    Its output goes to the files with these descriptors.
    """
    if torch.cuda.is_available():  # CUDA's libraries are not made for forks
        return subprocess.Popen([str(WORKER), *words], stdout=stdout, stderr=stderr)
    return _fork({"words": [str(WORKER), *words]}, stdout=stdout, stderr=stderr)


def start_function(function: Callable[..., None], *arguments: int | str) -> ForkedProcess:
    """A fork that calls a function of a module; an error there is exit code 1."""
    name = {"module": function.__module__, "function": function.__name__}
    return _fork({**name, "arguments": arguments}, stdout=1, stderr=2)


def start_new_process(*words: str) -> subprocess.Popen[bytes]:
    """`tandem-worker` as a new process, as a person or Ray starts it."""
    return subprocess.Popen([str(WORKER), *words])


def run_worker(*words: str, timeout_s: float) -> int:
    """The exit code of `tandem-worker` with these words; it is killed after `timeout_s`."""
    process = start_worker(*words)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def output_of_worker(*words: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """What `tandem-worker` with these words prints, and its exit code."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = start_worker(*words, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), err.read())


def _fork(what: dict[str, Any], *, stdout: int, stderr: int) -> ForkedProcess:
    request = what | {"environment": dict(os.environ), "folder": str(Path.cwd())}
    data = json.dumps(request).encode()
    assert len(data) < LONGEST_REQUEST
    status, status_of_fork = os.pipe()
    control = _server()
    socket.send_fds(control, [data], [stdout, stderr, status_of_fork])
    os.close(status_of_fork)
    return ForkedProcess(str(what), pid=int(control.recv(32)), status_pipe=status)


@cache
def _server() -> socket.socket:
    """The socket of a server for the rest of this process's life."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.training.worker_server", str(theirs.fileno())],
        cwd=ROOT,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()

    def end() -> None:
        ours.close()
        server.kill()
        server.wait()

    atexit.register(end)
    return ours
