"""Correlation losses on numbers computed by hand."""

import math

import pytest
import torch

from workers.distillation.losses.correlation import correlation_losses, standardize

# Over the columns: (1, 0, -1) with (1, -1, 0) has correlation 1/2, with itself 1.
STUDENT_KC = torch.tensor([[3.0, 2.0, 1.0], [6.0, 4.0, 2.0]])
TEACHER_KC = torch.tensor([[2.0, 0.0, 1.0], [9.0, 8.0, 7.0]])


def test_over_classes_each_position_has_one_minus_its_correlation() -> None:
    loss_K = correlation_losses(STUDENT_KC, TEACHER_KC, dim=1)

    assert loss_K.tolist() == pytest.approx([0.5, 0.0], abs=1e-5)


def test_over_positions_the_mean_is_one_minus_the_correlation_of_the_classes() -> None:
    student_KC, teacher_KC = STUDENT_KC.T.contiguous(), TEACHER_KC.T.contiguous()

    loss_K = correlation_losses(student_KC, teacher_KC, dim=0)

    # Two classes at three positions, with correlations 1/2 and 1.
    assert loss_K.shape == (3,)
    assert loss_K.mean().item() == pytest.approx((0.5 + 0.0) / 2, rel=1e-4)


def test_scale_and_offset_of_the_student_change_nothing() -> None:
    loss_K = correlation_losses(STUDENT_KC * 0.01 + 5.0, TEACHER_KC, dim=1)

    assert loss_K.tolist() == pytest.approx([0.5, 0.0], abs=1e-3)


def test_the_gradient_is_that_of_the_correlation() -> None:
    student_KC = STUDENT_KC[:1].clone().requires_grad_()

    correlation_losses(student_KC, TEACHER_KC[:1], dim=1).sum().backward()

    # rho = u.v / (|u| |v|) of the centered rows u = (1, 0, -1) and v = (1, -1, 0), and
    # d rho / du = v / (|u| |v|) - rho u / |u|^2 = (1, -1, 0) / 2 - (1, 0, -1) / 4
    assert student_KC.grad is not None
    assert student_KC.grad[0].tolist() == pytest.approx([-0.25, 0.5, -0.25], abs=1e-4)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("positions", [0, 1])
def test_fewer_than_two_positions_have_no_correlation(positions: int, dim: int) -> None:
    student_KC = torch.rand(positions, 1, requires_grad=True)

    loss_K = correlation_losses(student_KC, torch.rand(positions, 1), dim=dim)
    loss_K.sum().backward()

    assert loss_K.tolist() == [0.0] * positions
    assert student_KC.grad is not None
    assert (student_KC.grad == 0.0).all()


def test_equal_scores_have_a_finite_loss_and_gradient() -> None:
    student_KC = torch.full((4, 3), 0.01, requires_grad=True)

    loss_K = correlation_losses(student_KC, torch.rand(4, 3), dim=0)
    loss_K.sum().backward()

    # The student is 0 everywhere: half of the teacher's variance, 1.
    assert loss_K.mean().item() == pytest.approx(0.5, rel=1e-3)
    assert student_KC.grad is not None
    assert torch.isfinite(student_KC.grad).all()


def test_the_teacher_gets_no_gradient() -> None:
    teacher_KC = TEACHER_KC.clone().requires_grad_()

    loss_K = correlation_losses(STUDENT_KC.clone().requires_grad_(), teacher_KC, dim=1)
    loss_K.sum().backward()

    assert teacher_KC.grad is None


def test_standardized_values_have_mean_0_and_deviation_1() -> None:
    values = standardize(torch.tensor([1.0, 2.0, 3.0]), dim=0)

    step = math.sqrt(1.5)
    assert values.tolist() == pytest.approx([-step, 0.0, step], abs=1e-5)
