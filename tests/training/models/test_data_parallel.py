"""Two processes with half a batch each compute the gradients of one with the whole batch."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from tests.support.training.detectors import make_batch
from tests.support.training.distilled_students import (
    HEADS,
    METHODS,
    hold_statistics,
    make_detector,
    make_student,
)
from tests.support.training.process_groups import run_in_two_processes
from workers import distributed as workers_distributed

BOXES = [
    [[8.0, 8.0, 40.0, 40.0], [20.0, 4.0, 60.0, 50.0]],
    [[2.0, 2.0, 30.0, 60.0]],
    [],
    [[10.0, 30.0, 50.0, 62.0]],
]
METHODS_OF_SUMS = {
    "method": "bckd",
    "extra": {
        **{name: m for name, m in METHODS.items() if name not in ("bckd", "pkd")},
        "dist": METHODS["dist"] | {"intra_weight": 0.0},
    },
}
"""PKD and DIST's intra-class term have the statistics of a batch, which differ by process."""


def take_half(batch: dict[str, Any], rank: int) -> dict[str, Any]:
    own_half = slice(2 * rank, 2 * rank + 2)
    return {key: value[own_half] for key, value in batch.items()}


def train_step(student: Any, batch: dict[str, Any]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Loss terms and gradients of one step."""
    model: Any = workers_distributed.wrap_ddp(student)
    outputs = model.train_step(batch, None)
    outputs["loss"].backward()
    gradients = {n: p.grad for n, p in student.named_parameters() if p.grad is not None}
    return dict(outputs["log_vars"]), gradients


def train_in_micro_batches(
    student: Any, batch: dict[str, Any]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Mean loss terms and gradients of one step with two micro-batches."""
    student.bbox_head.micro_batches = 2
    terms: dict[str, float] = {}
    for part in (0, 1):
        outputs = student.train_step(take_half(batch, part), None)
        (outputs["loss"] / 2).backward()
        for name, value in outputs["log_vars"].items():
            terms[name] = terms.get(name, 0.0) + value / 2
    return terms, {n: p.grad for n, p in student.named_parameters() if p.grad is not None}


def build(folder: Path, head: str, method: dict[str, Any]) -> Any:
    student = make_student(folder, make_detector(head), make_detector(head, channels=64), method)
    hold_statistics(student)  # BatchNorm over half of a batch is another BatchNorm
    return student


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{head: (head, METHODS["bckd"]) for head in HEADS if head != "retina with one anchor"},
    "gfl with every method": ("gfl", METHODS_OF_SUMS),
}
"""Positives of PAA and YOLOX are on other levels in each half."""


def train_in_process(rank: int, port: int, folder_name: str) -> None:
    folder = Path(folder_name)
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    for name, (head, method) in CASES.items():
        own = folder / name / str(rank)
        own.mkdir(parents=True)
        terms, gradients = train_step(build(own, head, method), take_half(make_batch(BOXES), rank))
        if rank == 0:
            torch.save({"terms": terms, "gradients": gradients}, folder / f"{name}.pt")
    torch.save(run_collectives(rank), folder / f"exchange-{rank}.pt")
    distributed.destroy_process_group()


def run_collectives(rank: int) -> dict[str, Any]:
    means = workers_distributed.all_reduce_mean(
        torch.tensor([1.0, float(rank), math.nan if rank else 0.0])
    )
    try:
        workers_distributed.all_reduce_mean(torch.zeros(1 + rank))
    except AssertionError as error:
        return {"means": means, "refused": str(error)}
    return {"means": means, "refused": None}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes: the number of threads determines the order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    run_in_two_processes(train_in_process, folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_agree_with_one_process(
    tmp_path: Path, in_two_processes: Path, name: str
) -> None:
    terms, gradients = train_step(build(tmp_path, *CASES[name]), make_batch(BOXES))

    actual = torch.load(in_two_processes / f"{name}.pt", weights_only=True)

    assert actual["terms"] == pytest.approx(terms, rel=1e-5, abs=1e-6)
    assert_near(actual["gradients"], gradients)


def test_means_are_over_all_processes_and_nan_affects_its_own_number_only(
    in_two_processes: Path,
) -> None:
    for rank in (0, 1):
        actual = torch.load(in_two_processes / f"exchange-{rank}.pt", weights_only=True)
        assert actual["means"][:2] == [1.0, 0.5]
        assert math.isnan(actual["means"][2])


def test_processes_with_different_loss_terms_are_refused(in_two_processes: Path) -> None:
    for rank in (0, 1):
        actual = torch.load(in_two_processes / f"exchange-{rank}.pt", weights_only=True)
        assert "different numbers of loss terms" in actual["refused"]


def assert_near(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        # Some gradients are zero but for rounding: a bias moves no softmax over places.
        tolerance = 1e-5 * float(gradient.abs().max()) + 1e-7
        torch.testing.assert_close(
            actual[name], gradient, rtol=1e-5, atol=tolerance, msg=f"{name} differs"
        )


@pytest.mark.parametrize("head", ["gfl", "retina", "fcos", "paa", "yolox"])
def test_two_parts_with_as_many_objects_each_are_the_whole(tmp_path: Path, head: str) -> None:
    batch = make_batch([BOXES[0], BOXES[2], BOXES[0], BOXES[2]])
    batch["img"][2:] = batch["img"][:2]
    terms, gradients = train_step(build(tmp_path, head, METHODS["bckd"]), batch)

    actual, actual_gradients = train_in_micro_batches(build(tmp_path, head, METHODS["bckd"]), batch)

    assert actual == pytest.approx(terms, rel=1e-5, abs=1e-6)
    assert_near(actual_gradients, gradients)
