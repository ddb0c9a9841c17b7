"""Two processes that communicate over gloo, and train with half a batch each."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from service.stack.ports import choose_free_port
from tests.support.training.worker_processes import start_function
from workers import distributed as workers_distributed

FOUR_IMAGES = [
    [[8.0, 8.0, 40.0, 40.0], [20.0, 4.0, 60.0, 50.0]],
    [[2.0, 2.0, 30.0, 60.0]],
    [],
    [[10.0, 30.0, 50.0, 62.0]],
]
"""Boxes of each image of a batch, whose halves have three objects and one."""

Gradients = dict[str, Tensor]

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


@contextmanager
def join_two_processes(rank: int, port: int) -> Iterator[None]:
    """Communicate with the other process inside of `with`; each has a single thread."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    yield
    distributed.destroy_process_group()


def take_half(batch: dict[str, Any], rank: int) -> dict[str, Any]:
    """Two of the four images, also of a batch within the batch."""
    own_half = slice(2 * rank, 2 * rank + 2)
    return {
        key: take_half(value, rank) if isinstance(value, dict) else value[own_half]
        for key, value in batch.items()
    }


def train_step(student: Any, batch: dict[str, Any]) -> tuple[dict[str, float], Gradients]:
    """Loss terms and gradients of one step, over all processes of the group."""
    model: Any = workers_distributed.wrap_ddp(student)
    outputs = model.train_step(batch, None)
    outputs["loss"].backward()
    return dict(outputs["log_vars"]), get_gradients(student)


def get_gradients(student: Any) -> Gradients:
    return {n: p.grad for n, p in student.named_parameters() if p.grad is not None}


def save_half_step(file: Path, student: Any, batch: dict[str, Any], *, rank: int) -> None:
    """Train a step with the own half of a batch; the first process saves what it computed."""
    terms, gradients = train_step(student, take_half(batch, rank))
    if rank == 0:
        torch.save({"terms": terms, "gradients": gradients}, file)


def assert_step_agrees(file: Path, terms: dict[str, float], gradients: Gradients) -> None:
    """Compare what two processes saved with what one process computed."""
    actual = torch.load(file, weights_only=True)
    assert actual["terms"] == pytest.approx(terms, rel=1e-5, abs=1e-6)
    assert_gradients_agree(actual["gradients"], gradients)


def assert_gradients_agree(actual: Gradients, expected: Gradients) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        # Some gradients are zero but for rounding: a bias moves no softmax over positions.
        tolerance = 1e-5 * float(gradient.abs().max()) + 1e-7
        torch.testing.assert_close(
            actual[name], gradient, rtol=1e-5, atol=tolerance, msg=f"{name} differs"
        )
