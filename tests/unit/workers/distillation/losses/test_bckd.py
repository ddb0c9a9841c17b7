"""BCKD's losses on numbers computed by hand."""

import math

import pytest
import torch

from workers.distillation.losses.bckd import (
    classification_loss,
    disagreement,
    generalized_iou,
    localization_loss,
)

UNIT_WEIGHT = torch.ones(1)


def compute_logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_classification_loss_is_disagreement_times_cross_entropy() -> None:
    student, teacher = torch.tensor([[compute_logit(0.5)]]), torch.tensor([[compute_logit(0.8)]])

    loss = classification_loss(student, teacher, label_weight_N=UNIT_WEIGHT, num_pos=2.0)

    # |0.8 - 0.5| * -(0.8 ln 0.5 + 0.2 ln 0.5) / 2 = 0.3 * ln 2 / 2
    assert loss.item() == pytest.approx(0.3 * math.log(2) / 2, rel=1e-6)


def test_classification_gradient_flows_through_the_weight_too() -> None:
    student = torch.tensor([[compute_logit(0.5)]], requires_grad=True)
    teacher = torch.tensor([[compute_logit(0.8)]])

    classification_loss(student, teacher, label_weight_N=UNIT_WEIGHT, num_pos=1.0).backward()

    # d/ds |t - p| * BCE = -p(1-p) * BCE + |t - p| * (p - t), at p = 0.5 and t = 0.8
    assert student.grad is not None
    assert student.grad.item() == pytest.approx(-0.25 * math.log(2) - 0.3 * 0.3, rel=1e-5)


def test_classification_loss_is_v_shaped_where_student_and_teacher_agree() -> None:
    teacher = torch.tensor([[compute_logit(0.3)]])

    slopes = []
    for nudge in (-1e-3, 1e-3):
        student = (teacher + nudge).requires_grad_()
        classification_loss(student, teacher, label_weight_N=UNIT_WEIGHT, num_pos=1.0).backward()
        assert student.grad is not None
        slopes.append(student.grad.item())

    assert slopes[0] < -0.05
    assert slopes[1] > 0.05


def test_positions_of_label_weight_zero_do_not_count() -> None:
    student, teacher = torch.zeros(2, 1), torch.full((2, 1), compute_logit(0.8))
    weights = torch.tensor([1.0, 0.0])

    loss = classification_loss(student, teacher, label_weight_N=weights, num_pos=1.0)

    assert loss.item() == pytest.approx(0.3 * math.log(2), rel=1e-6)


def test_saturated_logits_stay_finite() -> None:
    student = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    teacher = torch.tensor([[200.0, -200.0]])

    loss = classification_loss(student, teacher, label_weight_N=UNIT_WEIGHT, num_pos=1.0)
    loss.backward()

    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_the_teacher_gets_no_gradient() -> None:
    teacher = torch.zeros(1, 1, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 1, 1]], requires_grad=True)
    student = torch.ones(1, 1, requires_grad=True)
    student_boxes = torch.tensor([[0.0, 0, 2, 2]], requires_grad=True)

    total = classification_loss(student, teacher, label_weight_N=UNIT_WEIGHT, num_pos=1.0)
    total = total + localization_loss(student_boxes, boxes, importance_N=UNIT_WEIGHT, num_pos=1.0)
    total.backward()

    assert teacher.grad is None
    assert boxes.grad is None


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([0.0, 0, 2, 2], 1.0),
        ([1.0, 1, 3, 3], 1 / 7 - 2 / 9),
        ([2.0, 0, 4, 2], 0.0),
        ([4.0, 0, 6, 2], -1 / 3),
    ],
    ids=["same", "overlapping", "touching", "apart"],
)
def test_generalized_iou_of_a_two_by_two_box(second: list[float], expected: float) -> None:
    giou = generalized_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([second]))

    assert giou.item() == pytest.approx(expected, abs=1e-6)


def test_localization_loss_is_weighted_and_its_weight_gets_no_gradient() -> None:
    importance = torch.tensor([0.5], requires_grad=True)
    student = torch.tensor([[2.0, 0, 4, 2]], requires_grad=True)

    loss = localization_loss(
        student, torch.tensor([[0.0, 0, 2, 2]]), importance_N=importance, num_pos=4.0
    )
    loss.backward()

    assert loss.item() == pytest.approx(0.5 * 1.0 / 4)
    assert importance.grad is None
    assert student.grad is not None


def test_losses_are_computed_in_float32_under_autocast() -> None:
    student = torch.randn(4, 3).bfloat16()
    teacher = torch.randn(4, 3).bfloat16()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = classification_loss(student, teacher, label_weight_N=torch.ones(4), num_pos=1.0)

    assert loss.dtype is torch.float32
    assert disagreement(student, teacher).dtype is torch.float32
