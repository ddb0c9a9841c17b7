"""Losses of GFL (Li et al., NeurIPS 2020, arXiv 2006.04388), as functions of tensors.

The numbers are those of mmdet's functions, which search for the positives and so have the host wait
for the device. Shapes: N positions, K of them positive, C classes, R bins of a box edge.
"""

import torch
from torch import Tensor
from torch.nn import functional


def quality_focal_loss(
    logits_NC: Tensor, *, positive_K: Tensor, labels_K: Tensor, quality_K: Tensor, beta: float
) -> Tensor:
    """Classification to the quality of the predicted box, summed over the classes, (N,).

    `positive_K` are indices of positions, `labels_K` their classes, `quality_K` the IoU of their
    predicted boxes; every other score is trained to 0.
    """
    scores_NC = logits_NC.sigmoid()
    loss_NC = functional.binary_cross_entropy_with_logits(
        logits_NC, torch.zeros_like(logits_NC), reduction="none"
    ) * scores_NC.pow(beta)
    at_object = (positive_K, labels_K)
    distance_K = (quality_K - scores_NC[at_object]).abs()
    loss_K = functional.binary_cross_entropy_with_logits(
        logits_NC[at_object], quality_K, reduction="none"
    ) * distance_K.pow(beta)
    return loss_NC.index_put_(at_object, loss_K).sum(dim=1)


def distribution_focal_loss(logits_KR: Tensor, distance_K: Tensor) -> Tensor:
    """Cross-entropy to the two bins next to each edge's distance (in bins), (K,)."""
    left_K = distance_K.long()
    right_K = left_K + 1
    to_left_K = functional.cross_entropy(logits_KR, left_K, reduction="none")
    to_right_K = functional.cross_entropy(logits_KR, right_K, reduction="none")
    return to_left_K * (right_K.float() - distance_K) + to_right_K * (distance_K - left_K.float())
