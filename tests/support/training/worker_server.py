"""Forks this process, which has imported torch and mmdet already, to run what tests ask for.

`tests.support.training.worker_processes` runs this as a program, with the descriptor of a socket.
Each message there is one request: a JSON object with what to run, the environment and the working
folder, and the descriptors of standard output, of standard error and of a pipe that gets the exit
status. What to run is the command line of a `tandem-worker`, or a function with its module and its
arguments. The answer is the process id. The end of the socket ends this process, not its forks.
"""

import json
import os
import random
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

LONGEST_REQUEST = 2**17
"""In bytes; Linux allows 212,992 for a message on a socket by default."""


@dataclass
class WorkerServer:
    """The forks that run, each with the pipe that gets its exit status."""

    control: socket.socket
    status_pipes: dict[int, int] = field(default_factory=dict)

    def serve(self) -> dict[str, Any] | None:
        """Fork for each request; in a fork the request, at the server's end none."""
        woken, wakes = os.pipe()
        for descriptor in (woken, wakes):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.control.fileno(), woken], [], [])
            if woken in ready:
                os.read(woken, 4096)
                self._report_exits()
            if self.control.fileno() in ready:
                data, descriptors, _, _ = socket.recv_fds(self.control, LONGEST_REQUEST, 3)
                if not data:
                    return None
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for descriptor in (woken, wakes, *self.status_pipes.values()):
                        os.close(descriptor)
                    self.control.close()
                    request: dict[str, Any] = json.loads(data)
                    _prepare(request, descriptors)
                    return request
                self._remember(pid, descriptors)
                self.control.send(str(pid).encode())

    def _remember(self, pid: int, descriptors: list[int]) -> None:
        stdout, stderr, status = descriptors
        os.close(stdout)
        os.close(stderr)
        self.status_pipes[pid] = status

    def _report_exits(self) -> None:
        for pid in list(self.status_pipes):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                pipe = self.status_pipes.pop(pid)
                with suppress(BrokenPipeError):  # the process that asked for it has ended
                    os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(pipe)


def _prepare(request: dict[str, Any], descriptors: list[int]) -> None:
    """Give a fork what a new process would have."""
    stdout, stderr, status = descriptors
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for descriptor in (stdout, stderr, status):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    random.seed()
    np.random.seed()
    torch.seed()


def _run(request: dict[str, Any]) -> None:
    if "words" in request:
        sys.argv = request["words"]
        cli.main()
    else:
        function = getattr(import_module(request["module"]), request["function"])
        function(*request["arguments"])


if __name__ == "__main__":
    from workers.process.logs import silence_libraries

    silence_libraries()
    import numpy as np
    import torch

    from workers import cli
    from workers.process import compat

    compat.apply_patches()
    from workers.jobs import (  # noqa: F401 - so that no fork has to
        evaluate,
        probe,
        train,
        train_pack,
    )

    request = WorkerServer(socket.socket(fileno=int(sys.argv[1]))).serve()
    if request is not None:
        _run(request)
