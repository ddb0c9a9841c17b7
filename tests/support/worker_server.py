"""Starts `tandem-worker` as forks of this process, which has imported torch and mmdet already.

`tests.support.worker_processes` runs this as a program, with the descriptor of a socket. Each
message there is one request: a JSON object with the command line, the environment and the working
folder, and the descriptors of standard output, of standard error and of a pipe that gets the exit
status. The answer is the process id. The end of the socket ends this process, not its forks.
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

LONGEST_REQUEST = 2**17
"""In bytes; Linux allows 212,992 for a message on a socket by default."""


@dataclass
class WorkerServer:
    """The forks that run, each with the pipe that gets its exit status."""

    control: socket.socket
    status_pipes: dict[int, int] = field(default_factory=dict)

    def serve(self) -> list[str] | None:
        """Fork for each request; in a fork the command line to run, at the server's end none."""
        woken, wakes = os.pipe()
        for descriptor in (woken, wakes):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.control, woken], [], [])
            if woken in ready:
                os.read(woken, 4096)
                self._report_exits()
            if self.control in ready:
                data, descriptors, _, _ = socket.recv_fds(self.control, LONGEST_REQUEST, 3)
                if not data:
                    return None
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for descriptor in (woken, wakes, *self.status_pipes.values()):
                        os.close(descriptor)
                    self.control.close()
                    return _become(json.loads(data), descriptors)
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


def _become(request: dict[str, object], descriptors: list[int]) -> list[str]:
    """Give a fork what a new process would have; its command line."""
    stdout, stderr, status = descriptors
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for descriptor in (stdout, stderr, status):
        os.close(descriptor)
    environment, words = request["environment"], request["words"]
    assert isinstance(environment, dict)
    assert isinstance(words, list)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(request["folder"]))
    random.seed()
    np.random.seed()
    torch.seed()
    return words


if __name__ == "__main__":
    from workers.logs import silence_libraries

    silence_libraries()
    import numpy as np
    import torch

    from workers import cli, compat

    compat.apply()
    from workers import evaluate, pack, train  # noqa: F401 - so that no fork has to
    from workers.probe import job  # noqa: F401

    words = WorkerServer(socket.socket(fileno=int(sys.argv[1]))).serve()
    if words is not None:
        sys.argv = words
        cli.main()
