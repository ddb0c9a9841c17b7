"""ATSS label assignment (Zhang et al., CVPR 2020, arXiv 1912.02424) of a whole batch at once.

The results are those of mmdet's `ATSSAssigner`, which is called once for each image, bit for bit on
a CPU: every comparison is made on the same rounded numbers, and equal distances are presented to
`topk` in the same order. Heads have one anchor at each location.

Shapes: B images, L levels, P anchors of an image (all levels), M boxes (the largest count in the
batch), K candidates of a box, H x W locations of a level. Positions N = B x P of the batch are
ordered by level, then image, row and column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from workers.distillation.anchor_grid import AnchorGrid, Size

_SMALLEST_AREA = 1e-6
_SMALLEST_DISTANCE = 0.01
"""A positive anchor's center is at least this far inside of the box, in pixels."""


@dataclass(frozen=True)
class PaddedBoxes:
    """Ground-truth boxes of all images, padded to the largest count, at least 1."""

    boxes_BM4: Tensor
    labels_BM: Tensor
    """Class of each box; -1 in the padding."""

    counts: list[int]
    """Boxes of each image."""

    @classmethod
    def of(cls, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> "PaddedBoxes":
        """Pad boxes (M, 4) in pixels and labels (M,) of each image."""
        boxes_BM4 = pad_sequence(list(boxes), batch_first=True)
        labels_BM = pad_sequence(list(labels), batch_first=True, padding_value=-1)
        if not boxes_BM4.shape[1]:
            boxes_BM4 = functional.pad(boxes_BM4, (0, 0, 0, 1))
            labels_BM = functional.pad(labels_BM, (0, 1), value=-1)
        return cls(boxes_BM4, labels_BM, [len(image_boxes) for image_boxes in boxes])

    def select(self, images: Sequence[int]) -> "PaddedBoxes":
        """The boxes of some images."""
        if len(images) == len(self.counts):
            return self
        return PaddedBoxes(
            torch.stack([self.boxes_BM4[image] for image in images]),
            torch.stack([self.labels_BM[image] for image in images]),
            [self.counts[image] for image in images],
        )


@dataclass(frozen=True)
class AtssTargets:
    """What the positions of a batch learn: mmdet's targets, with all levels in one tensor."""

    grid: AnchorGrid
    labels_N: Tensor
    """Class at each position; the number of classes where there is no object."""

    label_weight_N: Tensor
    """0 in the padding, else 1."""

    level_sizes: list[int]
    """Positions of the batch, by level."""

    num_pos: Tensor
    """Sum over the images of the number of positives, at least 1 for each; a scalar."""

    positive_K: Tensor
    """Indices of the positive positions among the N, ascending; here K counts positives."""

    positive_counts: list[int]
    """Positives of the batch, by level."""

    anchor_K: Tensor
    """Index of each positive's anchor among the P."""

    boxes_K4: Tensor
    """The box that each positive is assigned to, in pixels."""


def build_atss_targets(
    grid: AnchorGrid,
    boxes: PaddedBoxes,
    *,
    pad_shapes: Sequence[Sequence[int]],
    topk: int,
    num_classes: int,
) -> AtssTargets:
    """Assign the boxes of a batch to anchors; `pad_shapes` are (height, width) of each image.

    The host reads once: the number of positives of each level.
    """
    valid_sizes = [grid.valid_sizes(shape) for shape in pad_shapes]
    box_BP = assign_atss(grid, boxes, valid_sizes=valid_sizes, topk=topk)
    num_images, num_boxes = boxes.labels_BM.shape
    is_positive_BP = box_BP < num_boxes
    by_anchor_P = is_positive_BP.sum(dim=0)
    counts_L = by_anchor_P.new_zeros(len(grid.sizes)).scatter_add_(0, grid.level_P, by_anchor_P)
    positive_counts: list[int] = counts_L.tolist()

    order_N = grid.level_order(num_images)
    positive_K = (
        is_positive_BP.flatten()[order_N].nonzero_static(size=sum(positive_counts)).squeeze(1)
    )
    index_K = order_N[positive_K]
    num_anchors = len(grid.anchors_P4)
    image_K = index_K.div(num_anchors, rounding_mode="floor")
    box_K = box_BP.flatten()[index_K] + image_K * num_boxes
    labels_N = boxes.labels_BM.new_full((len(order_N),), num_classes)
    weight_BP = torch.stack([grid.valid_P(sizes) for sizes in valid_sizes])
    return AtssTargets(
        grid=grid,
        labels_N=labels_N.index_put_((positive_K,), boxes.labels_BM.flatten()[box_K]),
        label_weight_N=weight_BP.flatten()[order_N],
        level_sizes=[num_images * count for count in grid.level_counts],
        num_pos=is_positive_BP.sum(dim=1).clamp(min=1).sum().float(),
        positive_K=positive_K,
        positive_counts=positive_counts,
        anchor_K=index_K - image_K * num_anchors,
        boxes_K4=boxes.boxes_BM4.flatten(0, 1)[box_K],
    )


def assign_atss(
    grid: AnchorGrid, boxes: PaddedBoxes, *, valid_sizes: Sequence[tuple[Size, ...]], topk: int
) -> Tensor:
    """Index of the box that each anchor is assigned to, (B, P), int64; M where there is none.

    `valid_sizes` are those of each image. Nothing is read by the host.
    """
    groups: dict[tuple[Size, ...], list[int]] = {}
    for image, sizes in enumerate(valid_sizes):
        groups.setdefault(sizes, []).append(image)
    by_image: list[Tensor] = [boxes.labels_BM] * len(valid_sizes)
    for sizes, images in groups.items():
        assigned_BP = _assign_group(grid, boxes.select(images), sizes=sizes, topk=topk)
        if len(groups) == 1:
            return assigned_BP
        for image, assigned_P in zip(images, assigned_BP, strict=True):
            by_image[image] = assigned_P
    return torch.stack(by_image)


def _assign_group(
    grid: AnchorGrid, boxes: PaddedBoxes, *, sizes: Sequence[Size], topk: int
) -> Tensor:
    """Assign images of one size, with the candidates that ATSS takes from each level."""
    boxes_BM4 = boxes.boxes_BM4
    centers_BM2 = (boxes_BM4[..., :2] + boxes_BM4[..., 2:]) / 2.0
    candidates_BKM = _nearest(grid, centers_BM2, sizes=sizes, topk=topk)
    iou_BKM = _candidate_iou(grid, candidates_BKM, boxes_BM4)
    threshold_BM = _mean_of_candidates(iou_BKM, boxes.counts) + iou_BKM.std(dim=1)
    centers_BKM2 = grid.centers_P2[candidates_BKM]
    to_edges_BKM4 = torch.cat(
        [centers_BKM2 - boxes_BM4[:, None, :, :2], boxes_BM4[:, None, :, 2:] - centers_BKM2], dim=3
    )
    is_positive_BKM = (
        (iou_BKM >= threshold_BM[:, None])
        & (to_edges_BKM4.amin(dim=3) > _SMALLEST_DISTANCE)
        & (boxes.labels_BM >= 0)[:, None]
    )
    return _take_best(candidates_BKM, iou_BKM, is_positive_BKM, num_anchors=len(grid.anchors_P4))


def _nearest(grid: AnchorGrid, centers_BM2: Tensor, *, sizes: Sequence[Size], topk: int) -> Tensor:
    """Indices of the anchors of each level that are nearest to each box, (B, K, M).

    Distances are those between an abscissa and an ordinate each, because anchors form a grid.
    Images of another size have other candidates among anchors of equal distance, even where the
    additional anchors are farther: which `topk` returns depends on the numbers that it compares.
    """
    abscissas, ordinates = grid.axes
    squared_x = (abscissas - centers_BM2[..., :1]).square()
    squared_y = (ordinates - centers_BM2[..., 1:]).square()
    by_level = zip(
        squared_x.split([columns for _, columns in grid.sizes], dim=2),
        squared_y.split([rows for rows, _ in grid.sizes], dim=2),
        sizes,
        strict=True,
    )
    candidates, start = [], 0
    for (x_BMW, y_BMH, (rows, columns)), count in zip(by_level, grid.level_counts, strict=True):
        squared_BMHW = y_BMH[..., :rows, None] + x_BMW[..., None, :columns]
        distance_BMR = squared_BMHW.sqrt_().flatten(2)
        index_BMK = distance_BMR.topk(min(topk, rows * columns), dim=2, largest=False).indices
        if (width := x_BMW.shape[2]) != columns:
            index_BMK = index_BMK // columns * width + index_BMK % columns
        candidates.append(index_BMK + start)
        start += count
    return torch.cat(candidates, dim=2).transpose(1, 2).contiguous()


def _candidate_iou(grid: AnchorGrid, candidates_BKM: Tensor, boxes_BM4: Tensor) -> Tensor:
    """IoU of each box with its candidates, (B, K, M), rounded as in mmdet."""
    anchors_BKM4 = grid.anchors_P4[candidates_BKM]
    boxes_B1M4 = boxes_BM4[:, None]
    left_top = torch.maximum(anchors_BKM4[..., :2], boxes_B1M4[..., :2])
    right_bottom = torch.minimum(anchors_BKM4[..., 2:], boxes_B1M4[..., 2:])
    width_BKM, height_BKM = (right_bottom - left_top).clamp(min=0.0).unbind(3)
    overlap_BKM = width_BKM * height_BKM
    box_width_B1M, box_height_B1M = (boxes_B1M4[..., 2:] - boxes_B1M4[..., :2]).unbind(3)
    areas_BKM = grid.areas_P[candidates_BKM] + box_width_B1M * box_height_B1M
    return overlap_BKM / (areas_BKM - overlap_BKM).clamp(min=_SMALLEST_AREA)


def _mean_of_candidates(iou_BKM: Tensor, counts: Sequence[int]) -> Tensor:
    """Mean IoU of each box with its candidates, (B, M).

    torch adds up one column alone in another order than columns beside each other, so an image with
    one box, of which mmdet passes one column, needs its own sum.
    """
    mean_BM = iou_BKM.mean(dim=1)
    if iou_BKM.shape[2] == 1 or 1 not in counts:
        return mean_BM
    single_B1 = iou_BKM[..., 0].contiguous().mean(dim=1, keepdim=True)
    rows = [single_B1 if count == 1 else mean_BM for count in counts]
    return torch.stack([row[image].expand(iou_BKM.shape[2]) for image, row in enumerate(rows)])


def _take_best(
    candidates_BKM: Tensor, iou_BKM: Tensor, is_positive_BKM: Tensor, *, num_anchors: int
) -> Tensor:
    """The box with the largest IoU of each anchor, the first one if IoUs are equal, (B, P)."""
    num_boxes = candidates_BKM.shape[2]
    index_BC = candidates_BKM.flatten(1)
    iou_BC = torch.where(is_positive_BKM, iou_BKM, -1.0).flatten(1)
    best_BP = iou_BC.new_full((len(index_BC), num_anchors), -1.0)
    best_BP.scatter_reduce_(1, index_BC, iou_BC, "amax")
    is_best_BC = is_positive_BKM.flatten(1) & (iou_BC == best_BP.gather(1, index_BC))
    box_M = torch.arange(num_boxes, device=index_BC.device)
    box_BC = torch.where(is_best_BC.view_as(candidates_BKM), box_M, num_boxes).flatten(1)
    assigned_BP = index_BC.new_full(best_BP.shape, num_boxes)
    return assigned_BP.scatter_reduce_(1, index_BC, box_BC, "amin")
