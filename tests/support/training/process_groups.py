"""Two processes that compute together over gloo."""

import time
from collections.abc import Callable
from pathlib import Path

from service.stack.ports import choose_free_port
from tests.support.training.worker_processes import start_function

_PATIENCE_S = 240


def run_in_two_processes(work: Callable[[int, int, str], None], folder: Path) -> None:
    """Call `work(rank, port, folder)` in two processes; an error in either one fails the test.

    `work` is a function of a module, and `port` a free one for `torch.distributed`.
    """
    port = choose_free_port()
    processes = [start_function(work, rank, port, str(folder)) for rank in (0, 1)]
    deadline_s = time.monotonic() + _PATIENCE_S
    try:
        # One that waits for the other, which has failed, would wait for very long.
        while None in (codes := [process.poll() for process in processes]):
            assert not any(codes), f"one of two processes failed: {codes}"
            assert time.monotonic() < deadline_s, "two processes did not end in time"
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0]
