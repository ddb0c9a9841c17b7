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
    num_pos: float,
) -> Tensor:
    """Binary classification distillation, section 3.2, without its weight alpha1; a scalar.

    Each class is a separate binary problem: the cross-entropy to the teacher's probability,
    weighted by the disagreement. The gradient also flows through that weight, as in quality focal
    loss.
    """
    student_logits_NC = student_logits_NC.float()
    teacher_scores_NC = teacher_logits_NC.detach().float().sigmoid()
    cross_entropy_NC = functional.binary_cross_entropy_with_logits(
        student_logits_NC, teacher_scores_NC, reduction="none"
    )
    loss_NC = disagreement(student_logits_NC, teacher_logits_NC) * cross_entropy_NC
    return (loss_NC.sum(dim=1) * label_weight_N).sum() / num_pos


def localization_loss(
    student_boxes_N4: Tensor,
    teacher_boxes_N4: Tensor,
    *,
    importance_N: Tensor,
    num_pos: float,
) -> Tensor:
    """IoU-based localization distillation, section 3.3, without its weight alpha2; a scalar.

    `importance_N` is the largest disagreement over the classes at each position times its label
    weight; it weights the boxes and gets no gradient.
    """
    giou_N = generalized_iou(student_boxes_N4.float(), teacher_boxes_N4.detach().float())
    return (importance_N.detach() * (1.0 - giou_N)).sum() / num_pos


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
    return (right_bottom_N2 - left_top_N2).clamp(min=0.0).prod(dim=1)


def _signed_area(boxes_N4: Tensor) -> Tensor:
    return (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(dim=1)
