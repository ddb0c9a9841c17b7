"""Running a function in two processes that communicate over gloo."""

import time
from collections.abc import Callable
from pathlib import Path

from service.stack.ports import choose_free_port
from tests.support.training.worker_processes import start_function

_TIMEOUT_S = 240


def run_in_two_processes(function: Callable[[int, int, str], None], folder: Path) -> None:
    """Call `function(rank, port, folder)` in two processes; an error in one fails the test.

    `function` is defined in a module, and `port` is free for `torch.distributed`.
    """
    port = choose_free_port()
    processes = [start_function(function, rank, port, str(folder)) for rank in (0, 1)]
    deadline_s = time.monotonic() + _TIMEOUT_S
    try:
        # A process would wait long for another one that has failed.
        while None in (codes := [process.poll() for process in processes]):
            assert not any(codes), f"one of two processes failed: {codes}"
            assert time.monotonic() < deadline_s, "two processes did not end in time"
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0]
