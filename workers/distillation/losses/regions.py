"""Selection of positions: LD's valuable region, fine-grained masks, FCOS's targets.

Shapes: P positions of one image, L of one of its levels, M ground-truth boxes, A anchors at a
position, Q = P x A anchors, K candidates of a box. Boxes are (left, top, right, bottom), in any
unit.
"""

import torch
from torch import Tensor

_SMALLEST_AREA = 1e-6
_NON_CANDIDATE_AREA = 1e8
"""Area that mmdet gives to boxes that are not candidates (`INF`)."""


def valuable_region(
    anchors_P4: Tensor,
    boxes_M4: Tensor,
    *,
    positive_P: Tensor,
    num_level_anchors: list[int],
    topk: int,
    gamma: float,
) -> Tensor:
    """LD's valuable localization region, (P,), bool.

    Zheng et al., CVPR 2022, arXiv 2102.12252, algorithm 1: the positions that are not positive
    and whose DIoU with some ground-truth box is between `gamma` times its threshold and its
    threshold. The threshold is that of ATSS (Zhang et al., CVPR 2020, arXiv 1912.02424) with DIoU
    instead of IoU; the authors' code computes it from the IoU.
    """
    if not len(anchors_P4) or not len(boxes_M4):
        return torch.zeros_like(positive_P)
    diou_PM = distance_iou(anchors_P4, boxes_M4)
    distance_PM = _squared_distance(anchors_P4, boxes_M4)
    threshold_M = _atss_threshold(diou_PM, distance_PM, num_level_anchors, topk)
    near_PM = (diou_PM >= gamma * threshold_M) & (diou_PM <= threshold_M)
    return near_PM.any(dim=1) & ~positive_P


def imitation_mask(anchors_PA4: Tensor, boxes_M4: Tensor, *, threshold: float) -> Tensor:
    """Positions with an anchor near an object, (P,), bool.

    Wang et al., CVPR 2019, arXiv 1906.03609: an anchor is near a ground-truth box if its IoU
    exceeds `threshold` times the largest IoU of that box over all anchors.
    """
    positions = len(anchors_PA4)
    if not positions:
        return anchors_PA4.new_zeros(0, dtype=torch.bool)
    iou_QM = _iou(anchors_PA4.reshape(-1, 4), boxes_M4)
    near_QM = iou_QM > threshold * iou_QM.amax(dim=0)
    return near_QM.reshape(positions, -1).any(dim=1)


def fcos_targets(
    points_P2: Tensor,
    boxes_M4: Tensor,
    labels_M: Tensor,
    *,
    ranges_P2: Tensor,
    radius_P1: Tensor | None,
    background: int,
) -> tuple[Tensor, Tensor]:
    """Labels (P,) and distances to the four edges of the assigned box (P, 4), for one image.

    FCOS (Tian et al., ICCV 2019, arXiv 1904.01355), as in mmdet's FCOSHead: a point is assigned to
    the smallest box around it whose largest edge distance is in `ranges_P2` and whose center is
    within `radius_P1` of it (anywhere if that is None, without center sampling). mmdet gathers the
    distances with a list of all P indices, which costs a GPU tens of milliseconds per step; the
    results are equal.
    """
    if not len(boxes_M4):
        return labels_M.new_full((len(points_P2),), background), points_P2.new_zeros(
            len(points_P2), 4
        )
    distances_PM4 = _edge_distances(points_P2, boxes_M4[None])
    core_PM4 = boxes_M4[None] if radius_P1 is None else _shrink_to_centers(boxes_M4, radius_P1)
    is_near_PM = _edge_distances(points_P2, core_PM4).amin(dim=2) > 0
    largest_PM = distances_PM4.amax(dim=2)
    is_in_range_PM = (largest_PM >= ranges_P2[:, :1]) & (largest_PM <= ranges_P2[:, 1:])
    areas_PM = torch.where(is_near_PM & is_in_range_PM, _areas(boxes_M4), _NON_CANDIDATE_AREA)
    areas_P, box_P = areas_PM.min(dim=1)
    labels_P = torch.where(areas_P == _NON_CANDIDATE_AREA, background, labels_M[box_P])
    index_P14 = box_P[:, None, None].expand(-1, 1, 4)
    return labels_P, distances_PM4.gather(1, index_P14).squeeze(1)


def _shrink_to_centers(boxes_M4: Tensor, radius_P1: Tensor) -> Tensor:
    """The part of each box that is within a radius of its center, (P, M, 4)."""
    centers_M2 = _centers(boxes_M4)
    return torch.cat(
        [
            torch.maximum(centers_M2 - radius_P1[:, None], boxes_M4[:, :2]),
            torch.minimum(centers_M2 + radius_P1[:, None], boxes_M4[:, 2:]),
        ],
        dim=2,
    )


def _edge_distances(points_P2: Tensor, boxes_PM4: Tensor) -> Tensor:
    """Distances from points to the left, top, right and bottom edges of boxes, (P, M, 4)."""
    points_P12 = points_P2[:, None]
    return torch.cat([points_P12 - boxes_PM4[..., :2], boxes_PM4[..., 2:] - points_P12], dim=2)


def distance_iou(first_P4: Tensor, second_M4: Tensor) -> Tensor:
    """Pairwise DIoU (Zheng et al., AAAI 2020, arXiv 1911.08287), in (-1, 1], (P, M)."""
    hull_PM2 = torch.maximum(first_P4[:, None, 2:], second_M4[:, 2:]) - torch.minimum(
        first_P4[:, None, :2], second_M4[:, :2]
    )
    diagonal_PM = hull_PM2.square().sum(dim=2).clamp(min=_SMALLEST_AREA)
    return _iou(first_P4, second_M4) - _squared_distance(first_P4, second_M4) / diagonal_PM


def _atss_threshold(
    diou_PM: Tensor, distance_PM: Tensor, num_level_anchors: list[int], topk: int
) -> Tensor:
    """Mean plus deviation of a box's DIoU with the `topk` nearest anchors of each level, (M,)."""
    levels = zip(
        diou_PM.split(num_level_anchors), distance_PM.split(num_level_anchors), strict=True
    )
    candidates_KM = torch.cat(
        [diou_LM.gather(0, _nearest(distance_LM, topk)) for diou_LM, distance_LM in levels]
    )
    mean_M = candidates_KM.mean(dim=0)
    # ATSS uses Bessel's correction, which is undefined for a single candidate.
    return mean_M if len(candidates_KM) == 1 else mean_M + candidates_KM.std(dim=0)


def _nearest(distance_LM: Tensor, topk: int) -> Tensor:
    """Indices of the anchors of a level that are nearest to each box, (min(topk, L), M)."""
    return distance_LM.topk(min(topk, len(distance_LM)), dim=0, largest=False).indices


def _iou(first_P4: Tensor, second_M4: Tensor) -> Tensor:
    sides_PM2 = torch.minimum(first_P4[:, None, 2:], second_M4[:, 2:]) - torch.maximum(
        first_P4[:, None, :2], second_M4[:, :2]
    )
    overlap_PM = sides_PM2.clamp(min=0.0).prod(dim=2)
    union_PM = _areas(first_P4)[:, None] + _areas(second_M4) - overlap_PM
    return overlap_PM / union_PM.clamp(min=_SMALLEST_AREA)


def _areas(boxes_P4: Tensor) -> Tensor:
    return (boxes_P4[:, 2:] - boxes_P4[:, :2]).prod(dim=1)


def _squared_distance(first_P4: Tensor, second_M4: Tensor) -> Tensor:
    """Pairwise squared distance of the centers, (P, M)."""
    return (_centers(first_P4)[:, None] - _centers(second_M4)).square().sum(dim=2)


def _centers(boxes_P4: Tensor) -> Tensor:
    return (boxes_P4[:, :2] + boxes_P4[:, 2:]) / 2.0
