"""Non-maximum suppression of all images and classes of a batch at once.

mmcv's operator has the host wait for a GPU in each image. On a GPU all pairs of boxes of the same
image and class are compared by one set of tensor operations instead, and the number of times that
the host waits does not depend on the number of images.

Shapes: M boxes, P pairs.
"""

from collections.abc import Iterator

import torch
from mmcv.ops import nms
from torch import Tensor

_MAX_PAIRS = 1 << 22
"""Pairs that are compared at a time: about 300 MB of temporary tensors."""

_PASSES_BETWEEN_READS = 3
"""A pass over the pairs is cheap, while a GPU has to finish before the host sees its result."""


def suppress_by_image(
    boxes_M4: Tensor, scores_M: Tensor, images_M: Tensor, *, iou_threshold: float
) -> Tensor:
    """Mask (M,) of the boxes that `mmcv.ops.nms` keeps, image by image, for a CPU.

    There an operator without reads is worth nothing, and mmcv's is ten times as fast. Boxes of
    different classes must not overlap, and `images_M` (int64) has to ascend.
    """
    survives_M = torch.zeros_like(images_M, dtype=torch.bool)
    first = 0
    for count in images_M.unique_consecutive(return_counts=True)[1].tolist():
        last = first + count
        _, survivors = nms(boxes_M4[first:last], scores_M[first:last], iou_threshold)
        survives_M[first + survivors] = True
        first = last
    return survives_M


def suppress_overlaps(boxes_M4: Tensor, groups_M: Tensor, *, iou_threshold: float) -> Tensor:
    """Mask (M,) of the boxes that no better box of their group suppresses, for a GPU.

    Boxes are ordered by group (int64, ascending), then by descending score. A box is suppressed if
    its IoU with a better box that is not suppressed exceeds the threshold. Areas, intersections and
    the comparison round as in `mmcv.ops.nms` on a CPU.
    """
    better_P, worse_P = _list_overlaps(boxes_M4, groups_M, iou_threshold=iou_threshold)
    survives_M = torch.ones_like(groups_M, dtype=torch.bool)
    if better_P.numel() == 0:
        return survives_M
    # Each pass settles at least the best box that was not settled yet, usually many more: chains of
    # boxes that decide about each other are short.
    while True:
        previous_M = survives_M
        for _ in range(_PASSES_BETWEEN_READS):
            previous_M = survives_M
            rivals_P = survives_M[better_P].long()
            survives_M = torch.zeros_like(groups_M).index_add_(0, worse_P, rivals_P) == 0
        if torch.equal(previous_M, survives_M):
            return survives_M


def _list_overlaps(
    boxes_M4: Tensor, groups_M: Tensor, *, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Indices of the better and the worse box of each pair whose IoU exceeds the threshold."""
    areas_M = (boxes_M4[:, 2] - boxes_M4[:, 0]) * (boxes_M4[:, 3] - boxes_M4[:, 1])
    overlaps = []
    for better_P, worse_P in _iter_pairs(groups_M):
        first_P4, second_P4 = boxes_M4[better_P], boxes_M4[worse_P]
        corners_P2 = torch.minimum(first_P4[:, 2:], second_P4[:, 2:])
        sides_P2 = (corners_P2 - torch.maximum(first_P4[:, :2], second_P4[:, :2])).clamp_(min=0)
        intersections_P = sides_P2[:, 0] * sides_P2[:, 1]
        unions_P = areas_M[better_P] + areas_M[worse_P] - intersections_P
        overlapping = (intersections_P / unions_P > iou_threshold).nonzero().squeeze(1)
        overlaps.append((better_P[overlapping], worse_P[overlapping]))
    better, worse = zip(*overlaps, strict=True)
    return torch.cat(better), torch.cat(worse)


def _iter_pairs(groups_M: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs of boxes of one group, in chunks: indices of the better and of the worse box."""
    index_M = torch.arange(len(groups_M), device=groups_M.device)
    ends_M = torch.searchsorted(groups_M, groups_M, right=True)
    counts_M = ends_M - index_M - 1
    ends_of_pairs_M = counts_M.cumsum(0)
    first_pairs_M = ends_of_pairs_M - counts_M
    num_pairs = int(ends_of_pairs_M[-1]) if len(groups_M) else 0
    for start in range(0, max(num_pairs, 1), _MAX_PAIRS):
        pairs_P = torch.arange(start, min(start + _MAX_PAIRS, num_pairs), device=groups_M.device)
        better_P = torch.searchsorted(ends_of_pairs_M, pairs_P, right=True)
        yield better_P, better_P + 1 + pairs_P - first_pairs_M[better_P]
