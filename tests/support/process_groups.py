"""Two processes that compute together over gloo."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch.multiprocessing.spawn import spawn

from service.stack.ports import free_port

ROOT = Path(__file__).parents[2]


def run_in_two_processes(work: Callable[[int, int, Path], None], folder: Path) -> None:
    """Call `work(rank, port, folder)` in two new processes; an error in either one is raised.

    `work` is a function of a module, and `port` a free one for `torch.distributed`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)  # the processes import the module by its name
        spawn(work, args=(free_port(), folder), nprocs=2)
