"""Distillation of softened probabilities: of classes (Hinton et al.) and of box edges (LD).

Shapes: N positions, K categories of one softmax, C classes, 4 box edges with K bins each. The
teacher's tensors never get a gradient. Without positions a loss is an empty sum: zero, but still
connected to the student's graph.
"""

from torch import Tensor


def softened_divergence(
    student_logits_NK: Tensor, teacher_logits_NK: Tensor, *, temperature: float
) -> Tensor:
    """KL(teacher || student) of softmax(logits / T), times T^2 / K, (N,).

    Hinton et al., 2015, arXiv 1503.02531; T^2 keeps the gradient's scale. Averaging over the K
    categories instead of summing follows mmdet's KnowledgeDistillationKLDivLoss, so that published
    weights keep their meaning.
    """
    student_log_NK = (student_logits_NK.float() / temperature).log_softmax(dim=1)
    teacher_log_NK = (teacher_logits_NK.detach().float() / temperature).log_softmax(dim=1)
    terms_NK = teacher_log_NK.exp() * (teacher_log_NK - student_log_NK)
    return terms_NK.mean(dim=1) * temperature**2


def logit_divergence_loss(
    student_logits_NC: Tensor,
    teacher_logits_NC: Tensor,
    *,
    positive_N: Tensor,
    label_weight_N: Tensor,
    temperature: float,
    num_pos: float | Tensor,
) -> Tensor:
    """Classification distillation at the positive positions, a scalar.

    `positive_N` is a mask (N,), bool, or the ascending indices of the positives, int64, which avoid
    the device synchronization of a mask. The classes of a position share one softmax, as in Hinton
    et al., arXiv 1503.02531.
    """
    divergence_N = softened_divergence(
        student_logits_NC[positive_N], teacher_logits_NC[positive_N], temperature=temperature
    )
    return (divergence_N * label_weight_N[positive_N]).sum() / num_pos


def edge_divergence_loss(
    student_edges_N4K: Tensor,
    teacher_edges_N4K: Tensor,
    *,
    weight_N: Tensor,
    temperature: float,
    total_weight: float | Tensor,
) -> Tensor:
    """Localization Distillation (Zheng et al., CVPR 2022, arXiv 2102.12252), a scalar.

    Each edge is a distribution over K bins; the mean of the 4 divergences is weighted by
    `weight_N`, which gets no gradient.
    """
    divergence_N4 = softened_divergence(
        student_edges_N4K.flatten(0, 1), teacher_edges_N4K.flatten(0, 1), temperature=temperature
    ).reshape(-1, 4)
    return (divergence_N4.mean(dim=1) * weight_N.detach()).sum() / total_weight
