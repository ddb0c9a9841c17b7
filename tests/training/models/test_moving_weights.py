"""Steps with weights that move: in one process and in two, with terms that have stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from configs.spec.active_methods import own_methods
from configs.spec.distillation import Distillation
from tests.support.training.detectors import make_batch
from tests.support.training.distilled_students import make_detector, make_student
from tests.support.training.process_groups import (
    FOUR_IMAGES,
    join_two_processes,
    run_in_two_processes,
    take_half,
)
from workers import distributed as workers_distributed
from workers.distillation.weights import MovingWeights

EPOCHS, STEPS_PER_EPOCH = 2, 2
STOP = {"stop_epoch": 1}
DISTILLATION: dict[str, Any] = {
    "method": "bckd",
    "cls_weight": {"share": 0.3, "every_steps": 1},
    "loc_weight": {"warmup_epochs": 2, "shape": "cosine"},
    "extra": {
        "cwd": {"weight": STOP},
        "crosskd": {"after_convs": 1, "loc_weight": STOP},
    },
}
ADAPTERS = {"cwd": True, "crosskd_loc": True, "crosskd_cls": False}
"""Names of the adapters, and whether their terms stop."""


def train(folder: Path, batch: dict[str, Any]) -> dict[str, Any]:
    """Losses of each step, weights at the end, and gradients of the last step."""
    folder.mkdir(parents=True, exist_ok=True)
    student = make_student(
        folder, make_detector("gfl"), make_detector("gfl", channels=64), DISTILLATION
    )
    student.backbone.eval()  # BatchNorm over half of a batch is another BatchNorm
    distillation: Distillation = TypeAdapter(Distillation).validate_python(DISTILLATION)
    weights = MovingWeights(
        own_methods(distillation), epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH
    )
    model: Any = workers_distributed.wrap_ddp(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    losses = []
    for step in range(EPOCHS * STEPS_PER_EPOCH):
        student.use_weights(weights.at(step))
        student.gradient_norms.is_due = bool(weights.due_shares(step))
        optimizer.zero_grad()
        outputs = model.train_step(batch, None)
        outputs["loss"].backward()
        losses.append(dict(outputs["log_vars"]))
        optimizer.step()
        weights.move(student.gradient_norms.take(), step=step)
    gradients = {n: p.grad for n, p in student.named_parameters() if p.requires_grad}
    return {"losses": losses, "weights": weights.values, "gradients": gradients}


def train_in_process(rank: int, port: int, folder_name: str) -> None:
    folder = Path(folder_name)
    with join_two_processes(rank, port):
        half = take_half(make_batch(FOUR_IMAGES), rank)
        torch.save(train(folder / str(rank), half), folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("process"), make_batch(FOUR_IMAGES))


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    run_in_two_processes(train_in_process, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_two_processes_move_weights_as_one_does(
    in_one_process: dict[str, Any], in_two_processes: list[dict[str, Any]]
) -> None:
    first, second = in_two_processes

    assert first["weights"] == second["weights"]
    assert first["weights"] == pytest.approx(in_one_process["weights"], rel=1e-5)
    assert first["weights"]["distillation.cls_weight"] != 1.0
    for actual, expected in zip(first["losses"], in_one_process["losses"], strict=True):
        assert actual == pytest.approx(expected, rel=1e-4)


def test_a_term_that_has_stopped_has_a_loss_of_0(in_one_process: dict[str, Any]) -> None:
    first, last = in_one_process["losses"][0], in_one_process["losses"][-1]

    assert first.keys() == last.keys()
    stopped = {name for name, value in last.items() if "loss" in name and value == 0.0}
    assert stopped == {"loss_cwd", "loss_crosskd_loc"}
    assert all(first[name] > 0.0 for name in stopped)


def test_adapters_of_stopped_terms_have_a_gradient_of_0(
    in_one_process: dict[str, Any], in_two_processes: list[dict[str, Any]]
) -> None:
    for trained in (in_one_process, in_two_processes[0]):
        for name, is_stopped in ADAPTERS.items():
            gradient = trained["gradients"][f"adapters.{name}.weight"]
            assert (float(gradient.abs().max()) == 0.0) is is_stopped


def test_a_student_whose_terms_have_all_stopped_has_the_losses_of_a_baseline(
    tmp_path: Path,
) -> None:
    detector = make_detector("gfl")
    method = {"method": "pkd", "weight": STOP}
    student = make_student(tmp_path, detector, make_detector("gfl", channels=64), method)
    baseline = make_student(tmp_path, detector)
    student.use_weights({"distillation.weight": 0.0})
    student.teacher.forward = None  # a call would fail

    losses = dict(student.train_step(make_batch(FOUR_IMAGES), None)["log_vars"])

    expected = dict(baseline.train_step(make_batch(FOUR_IMAGES), None)["log_vars"])
    assert losses == expected | {"loss_pkd": 0.0}
