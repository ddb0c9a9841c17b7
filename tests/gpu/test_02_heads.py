"""Every head computes what the CPU computes, in every precision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from configs.protocol.names import ExitCode
from configs.spec.compute import Precision
from tests.support.gpu.agreement import TOLERANCES, StepResult, assert_within, compare_steps
from tests.support.gpu.measurement import RecordFigure
from tests.support.training.detectors import make_batch
from tests.support.training.digits import write_digits
from tests.support.training.distilled_students import HEADS, METHODS, make_detector, make_student
from tests.support.training.runs import make_spec, read_records, train
from workers.data.batches import HostBatch, to_device
from workers.process.device import matmul_precision

BOXES = [
    [[7.3, 9.1, 41.2, 38.7], [40.9, 24.3, 101.6, 90.2]],
    [[22.7, 51.3, 88.4, 119.6]],
    [],
]
"""Boxes without anchors at equal distances, so that every device assigns the same anchors."""

Operation = Callable[[Tensor, Tensor], Tensor]
IMAGE_SIZE = 128
LOSS_SCALE = {"fp16": 1024.0}
"""So that small gradients of fp16 do not vanish, as `torch.amp.GradScaler` does."""

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")
TF32_OR_NOT: tuple[Precision, ...] = ("fp32", "tf32")
CPU_PRECISIONS: dict[str, tuple[Precision, ...]] = {"gfl": ("fp32", "bf16", "fp16")}
"""Precisions of these tests on the CPU; other heads run in fp32."""

GPU_PRECISIONS: dict[str, tuple[Precision, ...]] = dict.fromkeys(
    ("tood", "paa", "yolox"), ("fp32",)
)
"""Heads whose labels follow their predictions: rounded ones can choose other anchors."""

OPERANDS: dict[Operation, tuple[tuple[int, ...], ...]] = {
    torch.matmul: ((256, 256), (256, 256)),
    functional.conv2d: ((4, 256, 28, 28), (256, 256, 3, 3)),
}
"""Shapes for which TF32 has fast kernels."""

CASES = [
    *(
        pytest.param(
            *("cpu", head, precision),
            id=f"cpu-{head}-{precision}",
            marks=() if head == "gfl" else pytest.mark.slow,
        )
        for head in HEADS
        for precision in CPU_PRECISIONS.get(head, ("fp32",))
    ),
    *(
        pytest.param("cuda", head, precision, id=f"cuda-{head}-{precision}", marks=pytest.mark.gpu)
        for head in HEADS
        for precision in GPU_PRECISIONS.get(head, PRECISIONS)
    ),
]


@pytest.mark.parametrize(("device", "head", "precision"), CASES, indirect=["device"])
def test_losses_and_gradients_are_near_those_of_the_cpu_in_fp32(
    tmp_path: Path,
    device: torch.device,
    head: str,
    precision: Precision,
    record_figure: RecordFigure,
) -> None:
    skip_if_missing(precision, device)
    reference = take_step(head, tmp_path, device=torch.device("cpu"), precision="fp32")

    result = take_step(head, tmp_path, device=device, precision=precision)

    difference = compare_steps(result, reference)
    record_figure("loss", difference.loss, f"relative ({difference.worst_loss})")
    record_figure("1 - cosine", difference.direction, "")
    record_figure("gradient's norm", difference.norm, "relative")
    assert_within(difference, TOLERANCES[precision])


@pytest.mark.gpu
@pytest.mark.parametrize("operation", OPERANDS)
def test_tf32_rounds_and_fp32_does_not(
    gpu: torch.device, operation: Operation, record_figure: RecordFigure
) -> None:
    skip_if_missing("tf32", gpu)
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(*shape, generator=draw) for shape in OPERANDS[operation])
    exact = operation(first.double(), second.double())

    errors = {}
    for precision in TF32_OR_NOT:
        with matmul_precision(precision):
            result = operation(first.to(gpu), second.to(gpu)).double().cpu()
        errors[precision] = float((result - exact).abs().max() / exact.abs().max())
        record_figure(precision, errors[precision], "relative")

    assert errors["fp32"] < 5e-6
    assert errors["tf32"] < 1e-2
    if operation is torch.matmul:  # cuDNN may choose a kernel without TF32 for a convolution
        assert errors["tf32"] > 2e-5


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gpu_trains_in_every_precision(
    digits: Path, tmp_path: Path, precision: Precision
) -> None:
    skip_if_missing(precision, torch.device("cuda", 0))
    schedule = make_spec(digits)["schedule"] | {"epochs": 1}
    compute = {"precision": precision, "channels_last": True}
    spec = make_spec(digits, schedule=schedule, compute=compute, resources={"num_gpus": 1})

    assert train(spec, tmp_path / "run") == ExitCode.SUCCEEDED

    started = next(r for r in read_records(tmp_path / "run") if r["kind"] == "started")
    assert started["device"].startswith("cuda")


@pytest.mark.gpu
def test_the_teacher_follows_the_student_to_a_gpu(tmp_path: Path, gpu: torch.device) -> None:
    student = make_distilled_student("gfl", tmp_path).to(gpu)

    assert next(student.teacher.detector.parameters()).is_cuda


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=16, val=4)


def skip_if_missing(precision: Precision, device: torch.device) -> None:
    """Skip where the GPU has no such precision."""
    if device.type == "cuda" and precision in ("tf32", "bf16"):
        capability = torch.cuda.get_device_capability(device)
        if capability < (8, 0):
            pytest.skip(f"{torch.cuda.get_device_name(device)} has no {precision}")


def make_distilled_student(head: str, folder: Path, **compute: Any) -> Any:
    teacher = make_detector(head, width=0.25, channels=64)
    return make_student(folder, make_detector(head), teacher, METHODS["bckd"], **compute)


def take_step(head: str, folder: Path, *, device: torch.device, precision: Precision) -> StepResult:
    """Run a forward and backward pass of a BCKD student with fixed initial weights."""
    student = make_distilled_student(head, folder, precision=precision).to(device)
    batch = to_device(HostBatch(make_batch(BOXES, size=IMAGE_SIZE)), device)
    scale = LOSS_SCALE.get(precision, 1.0)
    with matmul_precision(precision):
        total, losses = student._parse_losses(student.forward_train(**batch))
        (total * scale).backward()
    gradients = {
        name: parameter.grad.double().cpu() / scale
        for name, parameter in student.named_parameters()
        if parameter.grad is not None
    }
    return StepResult(dict(losses), gradients)
