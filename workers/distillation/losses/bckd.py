"""The two losses of BCKD (Yang et al., ICCV 2023, arXiv 2308.14286), as functions of tensors.

Shapes: N positions (all images, locations and anchors of one feature level), C classes, 4 box edges
(left, top, right, bottom, in any unit). The teacher's tensors never get a gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional

_SMALLEST_AREA = 1e-6


def disagreement(student_logits_NC: Tensor, teacher_logits_NC: Tensor) -> Tensor:
    """Absolute difference of the class probabilities, |p(t) - p(s)|, (N, C)."""
    return (
        teacher_logits_NC.detach().float().sigmoid() - student_logits_NC.float().sigmoid()
    ).abs()


def classification_loss(
    student_logits_NC: Tensor,
    teacher_logits_NC: Tensor,
    *,
    label_weight_N: Tensor,
    num_pos: float | Tensor,
) -> Tensor:
    """Binary classification distillation, section 3.2, without its weight alpha1; a scalar.

    Each class is a separate binary problem: the cross-entropy to the teacher's probability,
    weighted by the disagreement. The gradient also flows through that weight, as in quality focal
    loss.
    """
    disagreement_NC = disagreement(student_logits_NC, teacher_logits_NC)
    loss_N = classification_losses(student_logits_NC, teacher_logits_NC, disagreement_NC)
    return (loss_N * label_weight_N).sum() / num_pos


def classification_losses(
    student_logits_NC: Tensor, teacher_logits_NC: Tensor, disagreement_NC: Tensor
) -> Tensor:
    """The classification loss of each position, neither weighted nor normalized, (N,)."""
    cross_entropy_NC = functional.binary_cross_entropy_with_logits(
        student_logits_NC.float(), teacher_logits_NC.detach().float().sigmoid(), reduction="none"
    )
    return (disagreement_NC * cross_entropy_NC).sum(dim=1)


def localization_loss(
    student_boxes_N4: Tensor,
    teacher_boxes_N4: Tensor,
    *,
    importance_N: Tensor,
    num_pos: float | Tensor,
) -> Tensor:
    """IoU-based localization distillation, section 3.3, without its weight alpha2; a scalar.

    `importance_N` is the largest disagreement over the classes at each position times its label
    weight; it weights the boxes and gets no gradient.
    """
    loss_N = localization_losses(student_boxes_N4, teacher_boxes_N4, importance_N=importance_N)
    return loss_N.sum() / num_pos


def localization_losses(
    student_boxes_N4: Tensor, teacher_boxes_N4: Tensor, *, importance_N: Tensor
) -> Tensor:
    """The localization loss of each position, not normalized, (N,)."""
    giou_N = generalized_iou(student_boxes_N4.float(), teacher_boxes_N4.detach().float())
    return importance_N.detach() * (1.0 - giou_N)


def generalized_iou(first_N4: Tensor, second_N4: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al., CVPR 2019) of boxes with the same index, in [-1, 1], (N,)."""
    overlap_N = _area(
        torch.maximum(first_N4[:, :2], second_N4[:, :2]),
        torch.minimum(first_N4[:, 2:], second_N4[:, 2:]),
    )
    hull_N = _area(
        torch.minimum(first_N4[:, :2], second_N4[:, :2]),
        torch.maximum(first_N4[:, 2:], second_N4[:, 2:]),
    ).clamp(min=_SMALLEST_AREA)
    areas_N = _signed_area(first_N4) + _signed_area(second_N4)
    union_N = (areas_N - overlap_N).clamp(min=_SMALLEST_AREA)
    return overlap_N / union_N - (hull_N - union_N) / hull_N


def _area(left_top_N2: Tensor, right_bottom_N2: Tensor) -> Tensor:
    return _product((right_bottom_N2 - left_top_N2).clamp(min=0.0))


def _signed_area(boxes_N4: Tensor) -> Tensor:
    return _product(boxes_N4[:, 2:] - boxes_N4[:, :2])


def _product(sides_N2: Tensor) -> Tensor:
    # For the gradient of `Tensor.prod` the host waits for the device, to look for zeros.
    width_N, height_N = sides_N2.unbind(1)
    return width_N * height_N
