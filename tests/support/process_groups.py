"""Two processes that compute together over gloo."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.multiprocessing.spawn import spawn

ROOT = Path(__file__).parents[2]


def run_in_two_processes(work: Callable[[int, int, Path], None], folder: Path) -> None:
    """Call `work(rank, port, folder)` in two new processes; an error in either one is raised.

    `work` is a function of a module, and `port` a free one for `torch.distributed`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)  # the processes import the module by its name
        spawn(work, args=(port, folder), nprocs=2)
