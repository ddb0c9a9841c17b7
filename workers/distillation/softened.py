"""Divergences of softened softmax distributions: of classes (Hinton et al., 2015, arXiv 1503.02531)
and of box edges (LD: Zheng et al., CVPR 2022, arXiv 2102.12252).

Shapes: N positions, C classes, K options of a distribution, 4 box edges. The teacher's side never
gets a gradient. The mean over the options, not their sum, is mmdet's convention
(KnowledgeDistillationKLDivLoss): so published weights keep their meaning.
"""

from torch import Tensor
from torch.nn import functional


def softened_divergence(
    student_logits_NK: Tensor, teacher_logits_NK: Tensor, *, temperature: float
) -> Tensor:
    """T^2 times the mean over options of p(t) * (log p(t) - log p(s)), p softened by T, (N,)."""
    student_NK = functional.log_softmax(student_logits_NK.float() / temperature, dim=-1)
    teacher_NK = functional.log_softmax(teacher_logits_NK.detach().float() / temperature, dim=-1)
    divergence_NK = teacher_NK.exp() * (teacher_NK - student_NK)
    return divergence_NK.mean(dim=-1) * temperature**2


def logit_divergence_loss(
    student_logits_NC: Tensor,
    teacher_logits_NC: Tensor,
    *,
    positive_N: Tensor,
    label_weight_N: Tensor,
    temperature: float,
    num_pos: float,
) -> Tensor:
    """The class distributions' divergence at positive positions, over their number."""
    divergence_N = softened_divergence(
        student_logits_NC[positive_N], teacher_logits_NC[positive_N], temperature=temperature
    )
    total = (divergence_N * label_weight_N[positive_N]).sum() / num_pos
    return total + student_logits_NC.sum() * 0.0


def edge_divergence_loss(
    student_edges_N4K: Tensor,
    teacher_edges_N4K: Tensor,
    *,
    weight_N: Tensor,
    temperature: float,
    total_weight: float,
) -> Tensor:
    """The mean divergence of a box's four edges, weighted by position, over the whole weight."""
    divergence_N4 = softened_divergence(
        student_edges_N4K, teacher_edges_N4K, temperature=temperature
    )
    weighted = (divergence_N4.mean(dim=-1) * weight_N.detach()).sum() / total_weight
    return weighted + student_edges_N4K.sum() * 0.0
