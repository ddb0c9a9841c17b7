"""Regions of distillation on hand-made layouts.

The grid: nine anchors of side 4, their centers at 2, 4 and 6, so that neighbors overlap by half.
On the middle one, (2, 2, 6, 6), lies a ground-truth box of its size; IoU and DIoU with it:

    corner  IoU 4/28 = 1/7, DIoU 1/7 - 8/72 = 2/63
    side    IoU 8/24 = 1/3, DIoU 1/3 - 4/52 = 10/39
    middle  IoU 1, DIoU 1
"""

import math

import pytest
import torch
from mmdet.models.dense_heads import FCOSHead
from torch import Tensor

from workers.distillation.losses.regions import (
    distance_iou,
    fcos_targets,
    imitation_mask,
    valuable_region,
)

GRID = torch.tensor([[x - 2.0, y - 2.0, x + 2.0, y + 2.0] for y in (2, 4, 6) for x in (2, 4, 6)])
MIDDLE = torch.tensor([[2.0, 2, 6, 6]])
NO_BOXES = torch.zeros(0, 4)
NONE_POSITIVE = torch.zeros(9, dtype=torch.bool)


def render_mask(mask_P: Tensor) -> str:
    """Format a mask of the grid row by row, with `#` where it is true."""
    marks = ["#" if is_inside else "." for is_inside in mask_P.tolist()]
    return " ".join("".join(marks[start : start + 3]) for start in (0, 3, 6))


def compute_region(
    gamma: float, *, boxes: Tensor = MIDDLE, positive: Tensor = NONE_POSITIVE
) -> str:
    return render_mask(
        valuable_region(
            GRID, boxes, positive_P=positive, num_level_anchors=[9], topk=9, gamma=gamma
        )
    )


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([0.0, 0, 2, 2], 1.0),
        ([1.0, 0, 3, 2], 1 / 3 - 1 / 13),
        ([2.0, 0, 4, 2], -4 / 20),
        ([6.0, 0, 8, 2], -36 / 68),
        ([-1.0, -1, 3, 3], 1 / 4),
    ],
    ids=["same", "overlapping", "touching", "apart", "around"],
)
def test_distance_iou_of_a_two_by_two_box(second: list[float], expected: float) -> None:
    diou = distance_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([second]))

    assert diou.item() == pytest.approx(expected, abs=1e-6)


def test_distance_iou_compares_each_with_each() -> None:
    diou = distance_iou(GRID[:3], torch.cat([MIDDLE, GRID[2:3]]))

    # To the third anchor of the row: shifts of 4 and 2, then itself.
    assert diou.flatten().tolist() == pytest.approx(
        [2 / 63, -16 / 80, 10 / 39, 10 / 39, 2 / 63, 1.0], abs=1e-6
    )


def test_distance_iou_of_empty_boxes_is_finite() -> None:
    point = torch.tensor([[1.0, 1, 1, 1]])

    assert torch.isfinite(distance_iou(point, point)).all()


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(0.05, "### #.# ###"), (0.25, ".#. #.# .#."), (0.5, "... ... ...")],
)
def test_a_smaller_gamma_widens_the_valuable_region(gamma: float, expected: str) -> None:
    # Mean (1 + 4 * 10/39 + 4 * 2/63) / 9 = 0.239 and deviation 0.307: the threshold is 0.546.
    # The middle is above it; a side (0.256) needs gamma <= 0.470, a corner (0.032) <= 0.058.
    assert compute_region(gamma) == expected


def test_the_threshold_is_mean_plus_sample_deviation() -> None:
    values = [1.0] + [10 / 39] * 4 + [2 / 63] * 4
    mean = sum(values) / 9
    threshold = mean + math.sqrt(sum((value - mean) ** 2 for value in values) / 8)

    # A side is in up to gamma = its DIoU / threshold = 0.46977; by 9 for 8 it were 0.485.
    assert compute_region(10 / 39 / threshold - 1e-4) == ".#. #.# .#."
    assert compute_region(10 / 39 / threshold + 1e-4) == "... ... ..."


def test_positive_positions_are_left_out_of_the_valuable_region() -> None:
    positive = NONE_POSITIVE.clone()
    positive[[1, 4]] = True

    assert compute_region(0.25, positive=positive) == "... #.# .#."


def test_the_valuable_region_is_the_union_over_the_boxes() -> None:
    # A box on the top left anchor. Of its neighbors two are at a side (10/39), one at a corner
    # (2/63); by 4 to a side IoU 0 and DIoU -16/80 or, by 2 down as well, -20/100; across -32/128.
    # Mean (1 + 20/39 + 2/63 - 4 * 0.2 - 0.25) / 9 = 0.055, deviation 0.407: threshold 0.462.
    corner = GRID[:1]

    assert compute_region(0.25, boxes=corner) == ".#. #.. ..."
    assert compute_region(0.25, boxes=torch.cat([corner, MIDDLE])) == ".#. #.# .#."


def test_a_position_above_one_threshold_may_be_near_another_box() -> None:
    # The anchor on each box is above its threshold, but at a side of the other box.
    assert compute_region(0.25, boxes=GRID[5:6]) == "..# .#. ..#"
    assert compute_region(0.25, boxes=torch.cat([GRID[5:6], MIDDLE])) == ".## ### .##"


def test_the_threshold_takes_the_nearest_anchors_of_each_level() -> None:
    # A 2 x 2 box; five anchors of its size, shifted by 0 to 4, and two of side 4 on level two.
    box = torch.tensor([[0.0, 0, 2, 2]])
    fine = torch.tensor([[shift, 0.0, shift + 2.0, 2.0] for shift in range(5)])
    coarse = torch.tensor([[1.0, -1, 5, 3], [-1.0, -1, 3, 3]])

    def list_positions(topk: int, gamma: float) -> list[int]:
        region_P = valuable_region(
            torch.cat([fine, coarse]),
            box,
            positive_P=torch.zeros(7, dtype=torch.bool),
            num_level_anchors=[5, 2],
            topk=topk,
            gamma=gamma,
        )
        return region_P.nonzero().flatten().tolist()

    # DIoU: 1, 10/39, -4/20, -9/29, -16/40; coarse 1/9 - 4/41 and 1/4.
    # One of each level, 1 and 1/4: 0.625 + 0.75 / sqrt 2 = 1.155; times 0.22 is 0.2542.
    assert list_positions(topk=1, gamma=0.22) == [0, 1]
    assert list_positions(topk=1, gamma=0.21) == [0, 1, 6]
    # Two of each, 1, 10/39, 0.014 and 1/4: 0.380 + 0.428 = 0.808; times 0.31 is 0.2505.
    assert list_positions(topk=2, gamma=0.31) == [1]
    assert list_positions(topk=2, gamma=0.30) == [1, 6]


def test_a_single_anchor_has_a_threshold_without_deviation() -> None:
    region_P = valuable_region(
        MIDDLE,
        MIDDLE,
        positive_P=torch.zeros(1, dtype=torch.bool),
        num_level_anchors=[1],
        topk=9,
        gamma=0.5,
    )

    assert region_P.tolist() == [True]


def test_without_boxes_there_is_no_valuable_region() -> None:
    assert compute_region(0.25, boxes=NO_BOXES) == "... ... ..."


def test_without_anchors_the_valuable_region_is_empty() -> None:
    region_P = valuable_region(
        NO_BOXES,
        MIDDLE,
        positive_P=torch.zeros(0, dtype=torch.bool),
        num_level_anchors=[0, 0],
        topk=9,
        gamma=0.25,
    )

    assert region_P.shape == (0,)
    assert region_P.dtype is torch.bool


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.5, "... .#. ..."), (0.3, ".#. ### .#."), (0.1, "### ### ###")],
)
def test_a_lower_threshold_widens_the_imitation_mask(threshold: float, expected: str) -> None:
    assert render_mask(imitation_mask(GRID[:, None], MIDDLE, threshold=threshold)) == expected


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, "... .#. ..."), (0.4, ".#. ### .#.")])
def test_the_mask_compares_with_the_best_anchor_of_a_box(threshold: float, expected: str) -> None:
    # A box of side 2 in the middle: IoU 4/16 with the middle, 2/18 at a side, 1/19 at a corner;
    # a side has 0.444 of the best, a corner 0.211.
    small = torch.tensor([[3.0, 3, 5, 5]])

    assert render_mask(imitation_mask(GRID[:, None], small, threshold=threshold)) == expected


def test_the_imitation_mask_is_the_union_of_each_box_with_its_own_best() -> None:
    # The best of the small box is 1/4, that of the box on the top left anchor 1.
    boxes = torch.tensor([[3.0, 3, 5, 5], [0, 0, 4, 4]])

    assert render_mask(imitation_mask(GRID[:, None], boxes, threshold=0.5)) == "#.. .#. ..."


def test_any_anchor_of_a_position_brings_it_into_the_mask() -> None:
    # Each position has a second anchor, 8 wide; the box is that of the top middle position.
    wide = GRID + torch.tensor([-2.0, 0, 2, 0])
    both = torch.stack([GRID, wide], dim=1)
    box = wide[1:2]

    # IoU of the wide anchors: 1, at its sides 24/40, below 16/48; of the narrow ones: 16/32 in
    # the whole top row, below 8/40.
    assert render_mask(imitation_mask(both, box, threshold=0.9)) == ".#. ... ..."
    assert render_mask(imitation_mask(both, box, threshold=0.55)) == "### ... ..."
    assert render_mask(imitation_mask(GRID[:, None], box, threshold=0.9)) == "### ... ..."


def test_a_box_that_no_anchor_meets_adds_nothing() -> None:
    far = torch.tensor([[100.0, 100, 104, 104]])

    assert render_mask(imitation_mask(GRID[:, None], far, threshold=0.5)) == "... ... ..."


def test_without_boxes_the_imitation_mask_is_empty() -> None:
    mask = imitation_mask(GRID[:, None], NO_BOXES, threshold=0.5)

    assert mask.dtype is torch.bool
    assert render_mask(mask) == "... ... ..."


def test_without_anchors_the_imitation_mask_is_empty() -> None:
    mask = imitation_mask(torch.zeros(0, 2, 4), MIDDLE, threshold=0.5)

    assert mask.dtype is torch.bool
    assert mask.shape == (0,)


LEVELS = {8: (-1.0, 64.0), 16: (64.0, 128.0), 32: (128.0, 1e8)}
"""Ranges of the distances that each stride of an FCOS head stands for."""


@pytest.mark.parametrize("is_sampled", [True, False])
@pytest.mark.parametrize("boxes", [0, 1, 40])
def test_targets_of_fcos_are_those_of_mmdets_head(boxes: int, is_sampled: bool) -> None:
    generator = torch.Generator().manual_seed(boxes)
    corners_M2 = torch.rand(boxes, 2, generator=generator) * 200.0
    sides_M2 = torch.rand(boxes, 2, generator=generator) * 180.0 + 1.0
    boxes_M4 = torch.cat([corners_M2, corners_M2 + sides_M2], dim=1)
    labels_M = torch.randint(3, (boxes,), generator=generator)
    head = FCOSHead(3, 8, strides=list(LEVELS), center_sampling=is_sampled, norm_cfg=None)
    sizes = [(256 // stride, 256 // stride) for stride in LEVELS]
    by_level = head.prior_generator.grid_priors(sizes, dtype=torch.float32, device="cpu")
    counts = [len(points) for points in by_level]
    ranges_P2 = torch.tensor(list(LEVELS.values())).repeat_interleave(torch.tensor(counts), dim=0)
    expected_P, distances_P4 = head._get_target_single(
        boxes_M4, labels_M, torch.cat(by_level), ranges_P2, counts
    )

    radii = torch.tensor([stride * head.center_sample_radius for stride in LEVELS])
    radius_P1 = radii.repeat_interleave(torch.tensor(counts))[:, None]
    labels_P, distances_NP4 = fcos_targets(
        torch.cat(by_level),
        boxes_M4,
        labels_M,
        ranges_P2=ranges_P2,
        radius_P1=radius_P1 if is_sampled else None,
        background=3,
    )

    assert torch.equal(labels_P, expected_P)
    assert torch.equal(distances_NP4, distances_P4)
    assert bool((labels_P < 3).any()) == bool(boxes)
