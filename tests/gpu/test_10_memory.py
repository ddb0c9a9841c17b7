"""Memory of a step: what a look at the loss shares adds, and whether the probe has measured it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from configs.catalog import parse_spec
from tests.support.gpu.measurement import RecordFigure, peak_bytes_of, release_memory
from tests.support.training.detectors import a_batch
from tests.support.training.digits import write_digits
from tests.support.training.distilled_students import METHODS, a_detector, a_student
from tests.support.training.jobs import the_teacher
from tests.support.training.runs import a_spec
from workers.data.batches import Batch, HostBatch, to_device
from workers.data.resolve import resolve_run_dataset
from workers.distillation.teacher import share_teachers
from workers.probe.builder import StudentFactory
from workers.probe.costs import measure_costs

MIB = 2**20
IMAGE_SIZE = {"cpu": 64, "cuda": 768}
MOST_COPIES = 4.0
"""What a look may add, in bytes of all outputs of the head: the gradient of the detector's own
losses, that of one term, and what their computation needs."""


def test_a_look_at_the_loss_shares_adds_little_to_the_peak(
    tmp_path: Path, device: torch.device, record_figure: RecordFigure
) -> None:
    student = a_student(tmp_path, a_detector("gfl"), a_detector("gfl"), METHODS["bckd"]).to(device)
    size = IMAGE_SIZE[device.type]
    batch = to_device(HostBatch(a_batch([[[8.0, 8.0, 40.0, 40.0]], []], size=size)), device)
    outputs = bytes_of_outputs(student, batch["img"])
    step_bytes(student, batch, device=device, looks=False)  # libraries take memory of their own

    plain = step_bytes(student, batch, device=device, looks=False)
    has_looked = bool(student.loss_shares.shares)
    looking = step_bytes(student, batch, device=device, looks=True)

    record_figure("plain step", plain / MIB, "MiB")
    record_figure("with a look", looking / MIB, "MiB")
    record_figure("added", (looking - plain) / outputs, "of the head's outputs")
    assert not has_looked
    assert student.loss_shares.shares
    assert outputs == expected_bytes_of_outputs(size)
    assert looking - plain <= MOST_COPIES * outputs


@pytest.mark.gpu
def test_the_probes_memory_covers_steps_that_look_at_their_losses(
    tmp_path: Path, gpu: torch.device, record_figure: RecordFigure
) -> None:
    digits = write_digits(tmp_path / "digits", train=16, val=4)
    spec = parse_spec(
        a_spec(
            digits,
            teacher=the_teacher(),
            distillation={"method": "bckd"},
            resources={"num_gpus": 1},
        )
    )
    with share_teachers():
        bench = StudentFactory(dataset=resolve_run_dataset(spec), run_dir=tmp_path, device=gpu)
        costs = measure_costs(bench, spec)
    release_memory()

    def take_steps() -> None:
        runner, batch = bench.runner(spec), bench.batch(spec)
        for number in (1, 2, 3):
            runner.model.loss_shares.is_due = number == 3
            runner.train_step.step(batch, number=number)

    peak = peak_bytes_of(take_steps, gpu)

    record_figure("probe", costs.base_bytes / MIB, "MiB")
    record_figure("three steps", peak / MIB, "MiB")
    assert peak <= costs.base_bytes


def step_bytes(student: Any, batch: Batch, *, device: torch.device, looks: bool) -> int:
    """The peak of a forward and backward pass, with or without a look at the loss shares."""

    def step() -> None:
        student.loss_shares.is_due = looks
        total, _ = student._parse_losses(student.forward_train(**batch))
        total.backward()
        student.zero_grad(set_to_none=True)

    return peak_bytes_of(step, device)


def bytes_of_outputs(student: Any, images_B3HW: torch.Tensor) -> int:
    """Of the head's maps of a batch, fp32."""
    with torch.no_grad():
        outputs = student.bbox_head(student.extract_feat(images_B3HW))
    return sum(maps.nbytes for of_kind in outputs for maps in of_kind)


def expected_bytes_of_outputs(size: int) -> int:
    """Two images, 3 classes and 4 edges of 9 places each, at strides of 8 to 128 pixels."""
    places = sum((-(-size // stride)) ** 2 for stride in (8, 16, 32, 64, 128))
    return 2 * places * (3 + 4 * 9) * 4
