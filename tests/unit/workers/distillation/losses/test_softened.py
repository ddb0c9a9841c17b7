"""Softened distillation on numbers computed by hand."""

import math

import pytest
import torch
from torch import Tensor

from workers.distillation.losses.softened import (
    edge_divergence_loss,
    logit_divergence_loss,
    softened_divergence,
)

LN3 = math.log(3)
# softmax([ln 3, 0]) = (3/4, 1/4) against softmax([0, 0]) = (1/2, 1/2)
KL = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
NO_EDGES = torch.zeros(0, 4, 2)


def make_edges(*rows: list[float]) -> Tensor:
    """One position whose 4 edges have the given logits."""
    return torch.tensor([rows])


def test_divergence_is_the_mean_over_the_options_and_points_from_teacher_to_student() -> None:
    divergence = softened_divergence(torch.zeros(1, 2), torch.tensor([[LN3, 0.0]]), temperature=1.0)

    # The other direction would be (ln(2/3) + ln 2) / 4 = ln(4/3) / 4 = 0.072, not 0.065.
    assert divergence.tolist() == pytest.approx([KL / 2], rel=1e-5)


def test_temperature_divides_the_logits_and_its_square_keeps_the_size() -> None:
    divergence = softened_divergence(
        torch.zeros(1, 2), torch.tensor([[2 * LN3, 0.0]]), temperature=2.0
    )

    # softmax([2 ln 3, 0] / 2) = (3/4, 1/4) again
    assert divergence.tolist() == pytest.approx([4 * KL / 2], rel=1e-5)


def test_a_high_temperature_compares_the_logits_themselves() -> None:
    divergence = softened_divergence(
        torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), temperature=100.0
    )

    # T^2 KL tends to half of the logits' variance, (1 + 1) / 2 / 2; by 2 options.
    assert divergence.tolist() == pytest.approx([0.25], rel=1e-3)


def test_gradient_is_student_minus_teacher() -> None:
    student = torch.zeros(1, 2, requires_grad=True)

    softened_divergence(student, torch.tensor([[2 * LN3, 0.0]]), temperature=2.0).sum().backward()

    # T / K * (p(s) - p(t)) = 2 / 2 * (1/2 - 3/4, 1/2 - 1/4)
    assert student.grad is not None
    assert student.grad[0].tolist() == pytest.approx([-0.25, 0.25], rel=1e-5)


def test_each_position_has_a_divergence_of_its_own() -> None:
    teacher = torch.tensor([[LN3, 0.0], [0.0, 0.0], [0.0, LN3]])

    divergence = softened_divergence(torch.zeros(3, 2), teacher, temperature=1.0)

    assert divergence.tolist() == pytest.approx([KL / 2, 0.0, KL / 2], rel=1e-5, abs=1e-7)


def test_a_shift_of_all_logits_changes_nothing() -> None:
    student = torch.tensor([[0.5, -1.0, 2.0]])

    divergence = softened_divergence(student, student + 7.0, temperature=3.0)

    assert divergence.item() == pytest.approx(0.0, abs=1e-6)


def test_saturated_logits_stay_finite() -> None:
    student = torch.tensor([[-200.0, 200.0]], requires_grad=True)

    divergence = softened_divergence(student, torch.tensor([[200.0, -200.0]]), temperature=1.0)
    divergence.sum().backward()

    # ln p(t) - ln p(s) of the first option is 0 + 400; by 2 options
    assert divergence.item() == pytest.approx(200.0)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_logit_loss_counts_positive_positions_by_their_label_weight() -> None:
    teacher = torch.tensor([[LN3, 0.0], [LN3, 0.0], [9.0, 0.0]])

    loss = logit_divergence_loss(
        torch.zeros(3, 2),
        teacher,
        positive_N=torch.tensor([True, True, False]),
        label_weight_N=torch.tensor([1.0, 0.5, 1.0]),
        temperature=1.0,
        num_pos=3.0,
    )

    assert loss.item() == pytest.approx(1.5 * KL / 2 / 3, rel=1e-5)


def test_logit_loss_moves_only_the_positive_positions() -> None:
    student = torch.zeros(2, 2, requires_grad=True)

    logit_divergence_loss(
        student,
        torch.tensor([[LN3, 0.0], [LN3, 0.0]]),
        positive_N=torch.tensor([True, False]),
        label_weight_N=torch.ones(2),
        temperature=1.0,
        num_pos=1.0,
    ).backward()

    # By 2 options: 1/2 - 3/4 and 1/2 - 1/4.
    assert student.grad is not None
    assert student.grad.flatten().tolist() == pytest.approx([-0.125, 0.125, 0.0, 0.0], rel=1e-5)


@pytest.mark.parametrize("positions", [3, 0], ids=["none positive", "no positions"])
def test_logit_loss_of_nothing_is_zero_and_still_reaches_the_student(positions: int) -> None:
    student = torch.randn(positions, 2, requires_grad=True)

    loss = logit_divergence_loss(
        student,
        torch.randn(positions, 2),
        positive_N=torch.zeros(positions, dtype=torch.bool),
        label_weight_N=torch.ones(positions),
        temperature=2.0,
        num_pos=1.0,
    )
    loss.backward()

    assert loss.item() == 0.0
    assert student.grad is not None
    assert (student.grad == 0).all()


def test_edge_loss_averages_the_four_edges() -> None:
    teacher = make_edges([LN3, 0.0], [0.0, 0.0], [0.0, LN3], [0.0, 0.0])

    loss = edge_divergence_loss(
        torch.zeros(1, 4, 2),
        teacher,
        weight_N=torch.tensor([0.5]),
        temperature=1.0,
        total_weight=4.0,
    )

    # 2 of 4 edges differ by KL / 2 each
    assert loss.item() == pytest.approx(0.5 * (2 / 4) * (KL / 2) / 4, rel=1e-5)


def test_edge_loss_weighs_each_position_by_its_own_weight() -> None:
    different, same = torch.tensor([[[LN3, 0.0]] * 4]), torch.zeros(1, 4, 2)

    loss = edge_divergence_loss(
        torch.zeros(3, 4, 2),
        torch.cat([different, same, different]),
        weight_N=torch.tensor([1.0, 10.0, 0.25]),
        temperature=1.0,
        total_weight=1.0,
    )

    assert loss.item() == pytest.approx(1.25 * KL / 2, rel=1e-5)


def test_edge_loss_softens_by_its_temperature() -> None:
    loss = edge_divergence_loss(
        torch.zeros(1, 4, 2),
        make_edges(*[[10 * LN3, 0.0]] * 4),
        weight_N=torch.ones(1),
        temperature=10.0,
        total_weight=1.0,
    )

    assert loss.item() == pytest.approx(100 * KL / 2, rel=1e-4)


def test_edge_loss_of_no_positions_is_zero_and_still_reaches_the_student() -> None:
    student = NO_EDGES.clone().requires_grad_()

    loss = edge_divergence_loss(
        student, NO_EDGES, weight_N=torch.zeros(0), temperature=10.0, total_weight=1.0
    )
    loss.backward()

    assert loss.item() == 0.0
    assert student.grad is not None


def test_losses_are_zero_where_student_equals_teacher() -> None:
    logits, distributions = torch.randn(3, 5), torch.randn(3, 4, 6)

    classes = logit_divergence_loss(
        logits,
        logits,
        positive_N=torch.ones(3, dtype=torch.bool),
        label_weight_N=torch.ones(3),
        temperature=2.0,
        num_pos=1.0,
    )
    boxes = edge_divergence_loss(
        distributions, distributions, weight_N=torch.ones(3), temperature=10.0, total_weight=1.0
    )

    assert classes.item() == 0.0
    assert boxes.item() == 0.0


def test_the_teacher_and_the_weight_get_no_gradient() -> None:
    student, teacher = torch.randn(2, 4, 3).requires_grad_(), torch.randn(2, 4, 3).requires_grad_()
    logits = torch.randn(2, 4, requires_grad=True)
    weight = torch.ones(2, requires_grad=True)

    total = edge_divergence_loss(
        student, teacher, weight_N=weight, temperature=10.0, total_weight=1.0
    ) + logit_divergence_loss(
        student[:, :, 0],
        logits,
        positive_N=torch.ones(2, dtype=torch.bool),
        label_weight_N=torch.ones(2),
        temperature=2.0,
        num_pos=1.0,
    )
    total.backward()

    assert (teacher.grad, logits.grad, weight.grad) == (None, None, None)
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_divergence_is_computed_in_float32_under_autocast() -> None:
    student, teacher = torch.randn(4, 3).bfloat16(), torch.randn(4, 3).bfloat16()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        divergence = softened_divergence(student, teacher, temperature=2.0)

    assert divergence.dtype is torch.float32
    assert torch.equal(
        divergence, softened_divergence(student.float(), teacher.float(), temperature=2.0)
    )
