"""A process that has imported torch and mmdet, and forks itself for each request of a test.

`tests.support.training.worker_processes` runs this as a program, with the descriptor of a socket.
Each message is a request: a JSON object and the descriptors of standard output, of standard error
and of a pipe for the exit status. The object has the environment, the working folder, and either
the command line of a `tandem-worker` or a function with its module and arguments. The response is
the process id. When the socket closes, this process ends, but not its forks.
"""

import gc
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

MAX_REQUEST_BYTES = 2**17
"""In bytes; Linux allows 212,992 for a message on a socket by default."""


@dataclass
class WorkerServer:
    """Serves requests; `status_pipes` has the exit status pipe of each running fork by its id."""

    control: socket.socket
    status_pipes: dict[int, int] = field(default_factory=dict)

    def serve(self) -> dict[str, Any] | None:
        """Fork for each request; returns the request in a fork, None when the socket closes."""
        wakeup_read, wakeup_write = os.pipe()
        for descriptor in (wakeup_read, wakeup_write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.control.fileno(), wakeup_read], [], [])
            if wakeup_read in ready:
                os.read(wakeup_read, 4096)
                self._report_exits()
            if self.control.fileno() in ready:
                data, descriptors, _, _ = socket.recv_fds(self.control, MAX_REQUEST_BYTES, 3)
                if not data:
                    return None
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for descriptor in (wakeup_read, wakeup_write, *self.status_pipes.values()):
                        os.close(descriptor)
                    self.control.close()
                    request: dict[str, Any] = json.loads(data)
                    _prepare(request, descriptors)
                    return request
                self._register_fork(pid, descriptors)
                self.control.send(str(pid).encode())

    def _register_fork(self, pid: int, descriptors: list[int]) -> None:
        stdout, stderr, status = descriptors
        os.close(stdout)
        os.close(stderr)
        self.status_pipes[pid] = status

    def _report_exits(self) -> None:
        for pid in list(self.status_pipes):
            exited_pid, status = os.waitpid(pid, os.WNOHANG)
            if exited_pid:
                pipe = self.status_pipes.pop(pid)
                with suppress(BrokenPipeError):  # the process that asked for it has ended
                    os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(pipe)


def _prepare(request: dict[str, Any], descriptors: list[int]) -> None:
    """Set up a fork's output, environment, folder and random seeds like those of a new process."""
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
    if "argv" in request:
        sys.argv = request["argv"]
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

    gc.collect()
    gc.freeze()  # No collection in a fork examines, and so copies, what it shares.
    request = WorkerServer(socket.socket(fileno=int(sys.argv[1]))).serve()
    if request is not None:
        _run(request)
