"""Two processes with half of a batch each learn what one with the whole batch learns."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from tests.detectors import a_batch
from tests.training.test_methods import HEADS, METHODS, a_detector, a_student
from workers import processes

BOXES = [
    [[8.0, 8.0, 40.0, 40.0], [20.0, 4.0, 60.0, 50.0]],
    [[2.0, 2.0, 30.0, 60.0]],
    [],
    [[10.0, 30.0, 50.0, 62.0]],
]
EVERYTHING_BUT_PKD = {
    "method": "bckd",
    "also": {name: m for name, m in METHODS.items() if name not in ("bckd", "pkd")},
}
"""PKD takes means and deviations over a batch, so its batches are each process's own."""


def half_of(batch: dict[str, Any], rank: int) -> dict[str, Any]:
    mine = slice(2 * rank, 2 * rank + 2)
    return {key: value[mine] for key, value in batch.items()}


def learned(student: Any, batch: dict[str, Any]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Loss terms and gradients of one step."""
    model = processes.shared(student)
    outputs = model.train_step(batch, None)
    outputs["loss"].backward()
    gradients = {n: p.grad for n, p in student.named_parameters() if p.grad is not None}
    return dict(outputs["log_vars"]), gradients


def build(folder: Path, head: str, method: dict[str, Any]) -> Any:
    student = a_student(folder, a_detector(head), a_detector(head, channels=64), method)
    student.backbone.eval()  # BatchNorm over half of a batch is another BatchNorm
    return student


def in_a_process(rank: int, port: int, folder: Path, head: str, method: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    own = folder / str(rank)
    own.mkdir()
    terms, gradients = learned(build(own, head, method), half_of(a_batch(BOXES), rank))
    if rank == 0:
        torch.save({"terms": terms, "gradients": gradients}, folder / "found.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("head", "method"),
    [
        *((head, METHODS["bckd"]) for head in HEADS if head != "retina with one anchor"),
        ("gfl", EVERYTHING_BUT_PKD),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value.get("also", {"bckd": 1})),
)
def test_loss_and_gradients_agree_with_one_process(
    tmp_path: Path, head: str, method: dict[str, Any]
) -> None:
    terms, gradients = learned(build(tmp_path, head, method), a_batch(BOXES))

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(in_a_process, args=(port, tmp_path, head, method), nprocs=2)

    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found["terms"] == pytest.approx(terms, rel=1e-5, abs=1e-6)
    assert found["gradients"].keys() == gradients.keys()
    for name, wanted in gradients.items():
        torch.testing.assert_close(
            found["gradients"][name],
            wanted,
            rtol=1e-5,
            atol=1e-5 * float(wanted.abs().max()) + 1e-9,
            msg=lambda text, name=name: f"{name}: {text}",
        )
