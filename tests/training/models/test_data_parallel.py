"""Two processes with half a batch each compute the gradients of one with the whole batch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training.detectors import make_batch
from tests.support.training.distilled_students import (
    HEADS,
    METHODS,
    hold_statistics,
    make_detector,
    make_student,
)
from tests.support.training.process_groups import (
    FOUR_IMAGES,
    Gradients,
    assert_gradients_agree,
    assert_step_agrees,
    get_gradients,
    join_two_processes,
    run_in_two_processes,
    save_half_step,
    take_half,
    train_step,
)
from workers import distributed as workers_distributed

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS_OF_SUMS = {
    "method": "bckd",
    "extra": {
        **{name: m for name, m in METHODS.items() if name not in ("bckd", "pkd")},
        "dist": METHODS["dist"] | {"intra_weight": 0.0},
    },
}
"""PKD and DIST's intra-class term have the statistics of a batch, which differ by process."""


def train_in_micro_batches(
    student: Any, batch: dict[str, Any]
) -> tuple[dict[str, float], Gradients]:
    """Mean loss terms and gradients of one step with two micro-batches."""
    student.bbox_head.micro_batches = 2
    terms: dict[str, float] = {}
    for part in (0, 1):
        outputs = student.train_step(take_half(batch, part), None)
        (outputs["loss"] / 2).backward()
        for name, value in outputs["log_vars"].items():
            terms[name] = terms.get(name, 0.0) + value / 2
    return terms, get_gradients(student)


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
    with join_two_processes(rank, port):
        for name, case in CASES.items():
            own = folder / name / str(rank)
            own.mkdir(parents=True)
            student, batch = build(own, *case), make_batch(FOUR_IMAGES)
            save_half_step(folder / f"{name}.pt", student, batch, rank=rank)
        torch.save(run_collectives(rank), folder / f"exchange-{rank}.pt")


def run_collectives(rank: int) -> dict[str, Any]:
    means = workers_distributed.all_reduce_mean(
        torch.tensor([1.0, float(rank), math.nan if rank else 0.0])
    )
    try:
        workers_distributed.all_reduce_mean(torch.zeros(1 + rank))
    except AssertionError as error:
        return {"means": means, "refused": str(error)}
    return {"means": means, "refused": None}


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    run_in_two_processes(train_in_process, folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_agree_with_one_process(
    tmp_path: Path, in_two_processes: Path, name: str
) -> None:
    terms, gradients = train_step(build(tmp_path, *CASES[name]), make_batch(FOUR_IMAGES))

    assert_step_agrees(in_two_processes / f"{name}.pt", terms, gradients)


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


@pytest.mark.parametrize("head", ["gfl", "retina", "fcos", "paa", "yolox"])
def test_two_parts_with_as_many_objects_each_are_the_whole(tmp_path: Path, head: str) -> None:
    batch = make_batch([FOUR_IMAGES[0], FOUR_IMAGES[2], FOUR_IMAGES[0], FOUR_IMAGES[2]])
    batch["img"][2:] = batch["img"][:2]
    terms, gradients = train_step(build(tmp_path, head, METHODS["bckd"]), batch)

    actual, actual_gradients = train_in_micro_batches(build(tmp_path, head, METHODS["bckd"]), batch)

    assert actual == pytest.approx(terms, rel=1e-5, abs=1e-6)
    assert_gradients_agree(actual_gradients, gradients)
