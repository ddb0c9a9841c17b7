"""Where to distil: regions of the anchors that follow from the true boxes of one image.

Shapes: P positions or anchors of all levels, A anchors at each, M true boxes, 4 edges in pixels.
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou

_SMALLEST_DIAGONAL = 1e-6


def distance_iou(first_P4: Tensor, second_M4: Tensor) -> Tensor:
    """DIoU (Zheng et al., 2020, arXiv 1911.08287) of every box with every box, (P, M)."""
    first, second = first_P4[:, None, :], second_M4[None, :, :]
    hull_PM2 = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(
        first[..., :2], second[..., :2]
    )
    diagonal_PM = hull_PM2.square().sum(dim=-1).clamp(min=_SMALLEST_DIAGONAL)
    return box_iou(first_P4, second_M4) - _centre_distance(first, second).square() / diagonal_PM


def valuable_region(
    anchors_P4: Tensor,
    boxes_M4: Tensor,
    *,
    positive_P: Tensor,
    num_level_anchors: list[int],
    topk: int,
    gamma: float,
) -> Tensor:
    """LD's valuable localization region (arXiv 2102.12252, algorithm 1), (P,) booleans.

    A box's threshold is what ATSS would take, with DIoU for IoU: mean and deviation over the `topk`
    nearest anchors of each level. Valuable are anchors between `gamma` times it and itself.
    """
    if len(boxes_M4) == 0:
        return torch.zeros_like(positive_P)
    overlap_PM = distance_iou(anchors_P4, boxes_M4)
    near_KM = _nearest(anchors_P4, boxes_M4, num_level_anchors=num_level_anchors, topk=topk)
    candidates_KM = overlap_PM.gather(0, near_KM)
    threshold_M = candidates_KM.mean(dim=0) + candidates_KM.std(dim=0)
    between_PM = (overlap_PM >= gamma * threshold_M) & (overlap_PM <= threshold_M)
    return between_PM.any(dim=1) & ~positive_P


def imitation_mask(anchors_PA4: Tensor, boxes_M4: Tensor, *, threshold: float) -> Tensor:
    """Positions near an object (arXiv 1906.03609, section 3.2), (P,) booleans.

    An anchor is near a box if their IoU exceeds `threshold` times the box's largest.
    """
    positions, anchors, _ = anchors_PA4.shape
    if len(boxes_M4) == 0:
        return torch.zeros(positions, dtype=torch.bool, device=anchors_PA4.device)
    overlap = box_iou(anchors_PA4.reshape(-1, 4), boxes_M4)
    is_near = overlap > threshold * overlap.amax(dim=0)
    return is_near.reshape(positions, anchors * len(boxes_M4)).any(dim=1)


def _nearest(
    anchors_P4: Tensor, boxes_M4: Tensor, *, num_level_anchors: list[int], topk: int
) -> Tensor:
    """Numbers of the `topk` anchors of each level whose centres are nearest to a box's, (K, M)."""
    distance_PM = _centre_distance(anchors_P4[:, None, :], boxes_M4[None, :, :])
    nearest, first = [], 0
    for count, of_level in zip(
        num_level_anchors, distance_PM.split(num_level_anchors), strict=True
    ):
        nearest.append(of_level.topk(min(topk, count), dim=0, largest=False).indices + first)
        first += count
    return torch.cat(nearest)


def _centre_distance(first: Tensor, second: Tensor) -> Tensor:
    return ((first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2.0).norm(
        dim=-1
    )
