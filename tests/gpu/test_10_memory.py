"""Memory of a step: what measuring loss shares adds, and whether the probe includes it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from configs.catalog import parse_spec
from tests.support.gpu.measurement import RecordFigure, measure_peak_bytes, release_memory
from tests.support.training.detectors import make_batch
from tests.support.training.digits import write_digits
from tests.support.training.distilled_students import METHODS, make_detector, make_student
from tests.support.training.jobs import load_digits_teacher
from tests.support.training.runs import make_spec
from workers.data.batches import Batch, HostBatch, to_device
from workers.data.resolve import resolve_run_dataset
from workers.distillation.teacher import share_teachers
from workers.probe.builder import StudentFactory
from workers.probe.costs import measure_costs

MIB = 2**20
IMAGE_SIZE = {"cpu": 64, "cuda": 768}
MOST_COPIES = 4.0
"""Limit of the additional memory, in bytes of all outputs of the head: the gradient of the
detector's own losses, that of one term, and intermediates."""


def test_measuring_loss_shares_adds_little_to_the_peak(
    tmp_path: Path, device: torch.device, record_figure: RecordFigure
) -> None:
    student = make_student(
        tmp_path, make_detector("gfl"), make_detector("gfl"), METHODS["bckd"]
    ).to(device)
    size = IMAGE_SIZE[device.type]
    batch = to_device(HostBatch(make_batch([[[8.0, 8.0, 40.0, 40.0]], []], size=size)), device)
    outputs = count_output_bytes(student, batch["img"])
    measure_step_bytes(
        student, batch, device=device, measures_shares=False
    )  # libraries take memory of their own

    plain_bytes = measure_step_bytes(student, batch, device=device, measures_shares=False)
    has_shares = bool(student.loss_shares.shares)
    looking = measure_step_bytes(student, batch, device=device, measures_shares=True)

    record_figure("plain step", plain_bytes / MIB, "MiB")
    record_figure("with a look", looking / MIB, "MiB")
    record_figure("added", (looking - plain_bytes) / outputs, "of the head's outputs")
    assert not has_shares
    assert student.loss_shares.shares
    assert outputs == compute_output_bytes(size)
    assert looking - plain_bytes <= MOST_COPIES * outputs


@pytest.mark.gpu
def test_the_probes_memory_covers_steps_that_measure_loss_shares(
    tmp_path: Path, gpu: torch.device, record_figure: RecordFigure
) -> None:
    digits = write_digits(tmp_path / "digits", train=16, val=4)
    spec = parse_spec(
        make_spec(
            digits,
            teacher=load_digits_teacher(),
            distillation={"method": "bckd"},
            resources={"num_gpus": 1},
        )
    )
    with share_teachers():
        factory = StudentFactory(dataset=resolve_run_dataset(spec), run_dir=tmp_path, device=gpu)
        costs = measure_costs(factory, spec)
    release_memory()

    def take_steps() -> None:
        runner, batch = factory.runner(spec), factory.batch(spec)
        for number in (1, 2, 3):
            runner.model.loss_shares.is_due = number == 3
            runner.train_step.step(batch, number=number)

    peak = measure_peak_bytes(take_steps, gpu)

    record_figure("probe", costs.base_bytes / MIB, "MiB")
    record_figure("three steps", peak / MIB, "MiB")
    assert peak <= costs.base_bytes


def measure_step_bytes(
    student: Any, batch: Batch, *, device: torch.device, measures_shares: bool
) -> int:
    """Measure the peak of a forward and backward pass, with or without measuring loss shares."""

    def step() -> None:
        student.loss_shares.is_due = measures_shares
        total, _ = student._parse_losses(student.forward_train(**batch))
        total.backward()
        student.zero_grad(set_to_none=True)

    return measure_peak_bytes(step, device)


def count_output_bytes(student: Any, images_B3HW: torch.Tensor) -> int:
    """Count the bytes of the head's fp32 outputs of a batch."""
    with torch.no_grad():
        outputs = student.bbox_head(student.extract_feat(images_B3HW))
    return sum(maps.nbytes for of_kind in outputs for maps in of_kind)


def compute_output_bytes(size: int) -> int:
    """2 images, 3 classes and 4 edges with 9 bins, at strides of 8 to 128 pixels."""
    positions = sum((-(-size // stride)) ** 2 for stride in (8, 16, 32, 64, 128))
    return 2 * positions * (3 + 4 * 9) * 4
