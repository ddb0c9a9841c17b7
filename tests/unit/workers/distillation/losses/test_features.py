"""Distillation of feature maps on numbers computed by hand."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from workers.distillation.losses.features import cwd_loss, fine_grained_loss, pkd_loss

LN3 = math.log(3)
# softmax([ln 3, 0]) = (3/4, 1/4) against softmax([0, 0]) = (1/2, 1/2)
KL = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)

LOSSES = [
    pytest.param(
        partial(fine_grained_loss, mask_BHW=torch.ones(2, 4, 5, dtype=torch.bool), total=40.0),
        id="fine-grained",
    ),
    pytest.param(pkd_loss, id="pkd"),
    pytest.param(partial(cwd_loss, temperature=2.0), id="cwd"),
]
Loss = Callable[[Tensor, Tensor], Tensor]


def make_row(*values: float) -> Tensor:
    """A map of one image, one channel and one row."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def test_fine_grained_loss_is_half_the_squared_difference_at_masked_locations() -> None:
    student = torch.cat([make_row(1, 2, 9), make_row(0, 5, 9)], dim=1)
    teacher = torch.cat([make_row(3, 2, 0), make_row(1, 2, 0)], dim=1)

    loss = fine_grained_loss(
        student, teacher, mask_BHW=torch.tensor([[[True, True, False]]]), total=5.0
    )

    # First location: 2^2 + 1^2; second: 0^2 + 3^2; the third is not masked.
    assert loss.item() == pytest.approx((4 + 1 + 0 + 9) / (2 * 5))


def test_fine_grained_loss_takes_the_mask_of_each_image() -> None:
    student = torch.cat([make_row(1, 10), make_row(100, 1000)])
    mask = torch.tensor([[[True, False]], [[False, True]]])

    loss = fine_grained_loss(student, torch.zeros(2, 1, 1, 2), mask_BHW=mask, total=2.0)

    assert loss.item() == pytest.approx((1 + 1000**2) / (2 * 2))


def test_fine_grained_gradient_stays_at_masked_locations() -> None:
    student = make_row(1, 2).requires_grad_()

    fine_grained_loss(
        student, make_row(4, 4), mask_BHW=torch.tensor([[[True, False]]]), total=2.0
    ).backward()

    # Its slope is the difference over the total: 1 - 4 by 2.
    assert student.grad is not None
    assert student.grad.flatten().tolist() == [-1.5, 0.0]


def test_fine_grained_loss_of_an_empty_mask_is_zero_and_still_reaches_the_student() -> None:
    student = make_row(1, 2).requires_grad_()

    loss = fine_grained_loss(
        student, make_row(4, 4), mask_BHW=torch.zeros(1, 1, 2, dtype=torch.bool), total=1.0
    )
    loss.backward()

    assert loss.item() == 0.0
    assert student.grad is not None
    assert student.grad.flatten().tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        (make_row(1, -1, 1, -1), 0.0),
        (make_row(1, 1, -1, -1), 1.0),
        (make_row(-1, 1, -1, 1), 2.0),
        # Normalized (1, -1, 0, 0) * sqrt 2: correlation (1 + 1) * sqrt 2 / 4
        (make_row(1, -1, 0, 0), 1 - math.sqrt(2) / 2),
    ],
    ids=["same", "uncorrelated", "opposite", "half alike"],
)
def test_pkd_loss_is_one_minus_the_correlation(teacher: Tensor, expected: float) -> None:
    assert pkd_loss(make_row(1, -1, 1, -1), teacher).item() == pytest.approx(expected, abs=1e-5)


def test_pkd_loss_ignores_the_scale_and_offset_of_each_channel() -> None:
    teacher = torch.randn(2, 3, 4, 5)
    scale = torch.tensor([0.1, 1.0, 50.0]).reshape(1, 3, 1, 1)
    offset = torch.tensor([-3.0, 0.0, 100.0]).reshape(1, 3, 1, 1)

    loss = pkd_loss(teacher * scale + offset, teacher)

    assert loss.item() == pytest.approx(0.0, abs=1e-4)


def test_pkd_loss_normalizes_over_the_whole_batch() -> None:
    student, teacher = torch.cat([make_row(1), make_row(3)]), torch.cat([make_row(4), make_row(2)])

    # (-1, 1) against (1, -1): 2^2 / 2; an image by itself has nothing to compare.
    assert pkd_loss(student, teacher).item() == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("flat", [make_row(3, 3), make_row(3)], ids=["constant", "one location"])
def test_pkd_loss_of_a_flat_map_is_finite(flat: Tensor) -> None:
    student = flat.clone().requires_grad_()

    loss = pkd_loss(student, torch.arange(float(flat.numel())).reshape_as(flat))
    loss.backward()

    # A constant student is 0 everywhere: half of the teacher's variance, 1 or nothing.
    assert loss.item() == pytest.approx(0.5 if flat.numel() > 1 else 0.0, rel=1e-4)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_cwd_loss_is_the_divergence_over_the_locations() -> None:
    # Four locations: softmax([ln 3, ln 3, 0, 0]) = (3, 3, 1, 1) / 8 against 1/4 each.
    loss = cwd_loss(
        torch.zeros(1, 1, 2, 2), make_row(LN3, LN3, 0, 0).reshape(1, 1, 2, 2), temperature=1
    )

    # 2 * 3/8 * ln(3/2) + 2 * 1/8 * ln(1/2), summed over locations: the KL of two halves
    assert loss.item() == pytest.approx(KL, rel=1e-5)


def test_cwd_loss_softens_by_its_temperature() -> None:
    loss = cwd_loss(make_row(0, 0), make_row(2 * LN3, 0), temperature=2.0)

    assert loss.item() == pytest.approx(4 * KL, rel=1e-5)


def test_cwd_loss_at_a_high_temperature_is_half_the_variance() -> None:
    loss = cwd_loss(make_row(0, 0), make_row(1, -1), temperature=100.0)

    # T^2 KL tends to half of the variance 1 of the difference.
    assert loss.item() == pytest.approx(0.5, rel=1e-3)


def test_cwd_loss_averages_over_images_and_channels() -> None:
    teacher = torch.zeros(2, 2, 1, 2)
    teacher[0, 1] = torch.tensor([LN3, 0.0])

    loss = cwd_loss(torch.zeros(2, 2, 1, 2), teacher, temperature=1.0)

    assert loss.item() == pytest.approx(KL / 4, rel=1e-5)


def test_cwd_loss_ignores_the_offset_of_a_channel() -> None:
    teacher = make_row(1, 2, 4)

    loss = cwd_loss(teacher + 5.0, teacher, temperature=1.0)

    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_cwd_gradient_is_student_minus_teacher() -> None:
    student = make_row(0, 0).requires_grad_()

    cwd_loss(student, make_row(2 * LN3, 0), temperature=2.0).backward()

    # T * (p(s) - p(t)) = 2 * (1/2 - 3/4, 1/2 - 1/4)
    assert student.grad is not None
    assert student.grad.flatten().tolist() == pytest.approx([-0.5, 0.5], rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_maps_cost_nothing_and_different_ones_something(loss: Loss) -> None:
    maps = torch.randn(2, 3, 4, 5)

    assert loss(maps, maps).item() == 0.0
    assert loss(maps, maps.flip(3)).item() > 0.01


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_goes_to_the_student_and_never_to_the_teacher(loss: Loss) -> None:
    student = torch.randn(2, 3, 4, 5, requires_grad=True)
    teacher = torch.randn(2, 3, 4, 5, requires_grad=True)

    loss(student, teacher).backward()

    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_computed_in_float32_under_autocast(loss: Loss) -> None:
    student, teacher = torch.randn(2, 3, 4, 5).bfloat16(), torch.randn(2, 3, 4, 5).bfloat16()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher)

    assert value.dtype is torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float()))
