"""Compares the training step with the published code, with mmdet's losses, and with its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from mmdet.models import build_head

from tests.bench.step.case import CLASSES, IMAGE_SIZE, StepCase, describe_detector, write_case
from tests.bench.step.programs import StepProgram
from tests.bench.step.tandem_step import TandemStep
from tests.bench.table import Comparison, measure_alternately, measure_s
from workers.models.detector_config import build_detector_config

STUDENT_DEPTHS = (50, 18)
STEP_TARGET, BF16_TARGET, MEMORY_TARGET = 0.80, 0.40, 0.85
LOSSES_TARGET, OVERHEAD_TARGET = 0.3, 0.03
_BF16 = ("--precision", "bf16", "--channels-last")
_SAME_LOSSES = {
    "loss_cls": "loss_cls",
    "loss_distill_cls": "loss_kd",
    "loss_distill_loc": "loss_score_kd",
}
"""Our losses and the published ones. The published code adds 2e-4 to the weights of GFL's two box
losses, so those differ from mmdet's."""

_LOSS_TOLERANCE = 1e-5
_STRIDES = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Count:
    """A number of operators in one step, with the largest one that is good enough."""

    name: str
    tandem: int
    reference: int
    target: int


def compare_with_published(
    checkout: Path, *, rounds: int, folder: Path
) -> tuple[list[Comparison], list[Count]]:
    """Step time, peak memory and operators of both, on the same weights and images.

    Raises `ValueError` if a loss of the first step differs by more than 1e-5 of its value.
    """
    comparisons: list[Comparison] = []
    counts: list[Count] = []
    for depth in STUDENT_DEPTHS:
        case = StepCase(depth)
        file = write_case(case, folder / f"r{depth}.pt")
        with (
            StepProgram.start_published(file, checkout=checkout) as published,
            StepProgram.start_tandem(file) as tandem,
        ):
            measure_alternately(tandem.step, published.step, rounds=rounds)
            _check_losses(tandem.steps[0]["losses"], published.steps[0]["losses"])
            comparisons += [
                _compare(f"step, {case.name}, fp32", tandem, published, "seconds", STEP_TARGET),
                _compare(f"peak memory, {case.name}", tandem, published, "peak_mib", MEMORY_TARGET),
            ]
            if depth == STUDENT_DEPTHS[0]:
                counts = _compare_counts(tandem.count(), published.count())
        with (
            StepProgram.start_published(file, checkout=checkout) as published,
            StepProgram.start_tandem(file, *_BF16) as tandem,
        ):
            measure_alternately(tandem.step, published.step, rounds=rounds)
            name = f"step, {case.name}, bf16 and channels_last, to published fp32"
            comparisons.append(_compare(name, tandem, published, "seconds", BF16_TARGET))
    return comparisons, counts


def _compare(
    name: str, tandem: StepProgram, published: StepProgram, quantity: str, target: float
) -> Comparison:
    """Compare all steps after the first, which fills caches."""
    own, other = (
        [float(step[quantity]) for step in program.steps[1:]] for program in (tandem, published)
    )
    unit: Literal["s", "MiB"] = "MiB" if quantity == "peak_mib" else "s"
    return Comparison(name, own, other, target=target, unit=unit)


def _compare_counts(tandem: dict[str, int], published: dict[str, int]) -> list[Count]:
    return [
        Count("operators of a step", tandem["operators"], published["operators"], 6000),
        Count("host reads and nonzero", tandem["host_reads"], published["host_reads"], 3),
    ]


def _check_losses(tandem: dict[str, float], published: dict[str, float]) -> None:
    for own, other in _SAME_LOSSES.items():
        expected = published[other]
        if abs(tandem[own] - expected) > _LOSS_TOLERANCE * abs(expected):
            raise ValueError(f"{own} is {tandem[own]}, and the published {other} is {expected}.")


def measure_overhead(*, rounds: int, folder: Path) -> list[Comparison]:
    """What a distilled step takes besides the teacher and the student's own step, to the step."""
    case = torch.load(write_case(StepCase(STUDENT_DEPTHS[0]), folder / "case.pt"))
    distilled = TandemStep(case, compute={})
    plain = TandemStep(case, compute={}, is_distilled=False)
    images = distilled.batch["img"]

    def run_teacher() -> None:
        distilled.model.teacher.forward(images, batch=images)

    overheads: list[float] = []
    steps: list[float] = []
    for round_index in range(-1, rounds):
        step_s, plain_s, teacher_s = (measure_s(part) for part in (distilled, plain, run_teacher))
        if round_index >= 0:
            overheads.append(step_s - plain_s - teacher_s)
            steps.append(step_s)
    return [Comparison("overhead of distillation, to the step", overheads, steps, OVERHEAD_TARGET)]


def compare_losses(*, rounds: int) -> list[Comparison]:
    """Label assignment and GFL's losses beside mmdet's code, which loops over images and levels."""
    config = build_detector_config(describe_detector(50, is_student=True), classes=CLASSES)
    head_config = {
        **config.bbox_head,
        "train_cfg": config.train_cfg,
        "test_cfg": config.test_cfg,
    }
    reference = build_head(head_config)
    tandem = build_head({**head_config, "type": f"Tandem{head_config['type']}"})
    tandem.load_state_dict(reference.state_dict())
    comparisons = []
    for num_images in (2, 8, 16):
        inputs = _make_loss_inputs(num_images)
        seconds = measure_alternately(
            partial(tandem.loss, *inputs),
            partial(reference.loss, *inputs),
            rounds=rounds,
        )
        name = f"assignment and losses, {num_images} images with 1 to 100 boxes"
        comparisons.append(Comparison(name, *seconds, target=LOSSES_TARGET))
    return comparisons


def _make_loss_inputs(num_images: int) -> tuple[Any, ...]:
    """Outputs of a head by level, boxes, labels and sizes of images."""
    generator = torch.Generator().manual_seed(num_images)
    height, width = IMAGE_SIZE
    sizes = [(-(-height // stride), -(-width // stride)) for stride in _STRIDES]

    def draw_maps(channels: int) -> list[torch.Tensor]:
        return [
            torch.randn(num_images, channels, *size, generator=generator).requires_grad_()
            for size in sizes
        ]

    boxes, labels = [], []
    for image in range(num_images):
        count = 1 + image * 99 // max(1, num_images - 1)
        extents = 2.0 ** (4.0 + 4.0 * torch.rand(count, 2, generator=generator))
        limits = torch.tensor([width, height]) - extents
        left_top = torch.rand(count, 2, generator=generator) * limits
        boxes.append(torch.cat([left_top, left_top + extents], dim=1))
        labels.append(torch.randint(len(CLASSES), (count,), generator=generator))
    shape = (height, width, 3)
    metas = [{"img_shape": shape, "pad_shape": shape}] * num_images
    return draw_maps(len(CLASSES)), draw_maps(4 * 17), boxes, labels, metas


def format_counts(counts: Sequence[Count]) -> str:
    """A table in Markdown."""
    lines = ["| in one step | Tandem | published | target |", "| --- | ---: | ---: | --- |"]
    for count in counts:
        verdict = "met" if count.tandem <= count.target else "missed"
        target = f"{count.target:,}, {verdict}"
        lines.append(f"| {count.name} | {count.tandem:,} | {count.reference:,} | {target} |")
    return "\n".join(lines) + "\n"
