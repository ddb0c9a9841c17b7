"""The label assignment of a batch equals that of mmdet's assigner, which gets one image each."""

from dataclasses import dataclass

import pytest
import torch
from mmdet.core.anchor import AnchorGenerator
from mmdet.core.bbox.assigners import ATSSAssigner
from torch import Tensor

from workers.distillation.anchor_grid import AnchorGrid, GridCache
from workers.distillation.assignment import PaddedBoxes, assign_atss, build_atss_targets

STRIDES = [8, 16, 32, 64, 128]
TOPK = 9
CLASSES = 5


def make_generator() -> AnchorGenerator:
    return AnchorGenerator(strides=STRIDES, ratios=[1.0], octave_base_scale=8, scales_per_octave=1)


@dataclass(frozen=True)
class RandomBatch:
    """Images of different size and number of boxes; equal boxes and distances are common."""

    grid: AnchorGrid
    boxes: list[Tensor]
    labels: list[Tensor]
    pad_shapes: list[tuple[int, int]]


def draw_int(generator: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw_batch(seed: int) -> RandomBatch:
    generator = torch.Generator().manual_seed(seed)
    height, width = (32 * draw_int(generator, 2, 10) for _ in range(2))
    maps = [torch.zeros(1, 1, -(-height // side), -(-width // side)) for side in STRIDES]
    counts = [draw_int(generator, 0, draw_int(generator, 0, 3) ** 3) for _ in range(1 + seed % 4)]
    shapes = [
        (32 * draw_int(generator, 1, height // 32), width)
        if draw_int(generator, 0, 1)
        else (height, 32 * draw_int(generator, 1, width // 32))
        for _ in counts
    ]
    boxes = [draw_boxes(generator, count, float(height), float(width)) for count in counts]
    return RandomBatch(
        grid=GridCache(make_generator()).get(maps),
        boxes=boxes,
        labels=[torch.randint(0, CLASSES, (count,), generator=generator) for count in counts],
        pad_shapes=shapes if seed % 3 else [(height, width)] * len(counts),
    )


def draw_boxes(generator: torch.Generator, count: int, height: float, width: float) -> Tensor:
    """Boxes of which some are equal; half of the time on a grid, so that distances are equal."""
    sides = torch.tensor([width, height])
    corners = torch.rand(count, 2, generator=generator) * sides * 0.9
    sizes = torch.rand(count, 2, generator=generator).square() * sides
    boxes = torch.cat([corners, corners + sizes], dim=1)
    if draw_int(generator, 0, 1):
        boxes = (boxes / 4.0).round() * 4.0
    if count > 3:
        boxes[1:3] = boxes[0]
    return boxes


def assign_each(batch: RandomBatch, image: int) -> Tensor:
    """mmdet's assignment of one image: an index of a box, or -1, at each of the P anchors."""
    grid = batch.grid
    flags = make_generator().valid_flags(grid.sizes, batch.pad_shapes[image], device="cpu")
    is_valid_P = torch.cat(flags)
    result = ATSSAssigner(TOPK).assign(
        grid.anchors_P4[is_valid_P],
        [int(level.sum()) for level in flags],
        batch.boxes[image],
        None,
        batch.labels[image],
    )
    assigned_P = torch.full((len(is_valid_P),), -1)
    assigned_P[is_valid_P] = result.gt_inds - 1
    return assigned_P


@pytest.mark.parametrize("seed", range(40))
def test_assignments_of_a_batch_equal_those_of_each_image(seed: int) -> None:
    batch = draw_batch(seed)
    sizes = [batch.grid.valid_sizes(shape) for shape in batch.pad_shapes]
    padded = PaddedBoxes.of(batch.boxes, batch.labels)

    assigned_BP = assign_atss(batch.grid, padded, valid_sizes=sizes, topk=TOPK)

    expected_BP = torch.stack([assign_each(batch, image) for image in range(len(batch.boxes))])
    none = padded.labels_BM.shape[1]
    assert torch.equal(assigned_BP, torch.where(expected_BP < 0, none, expected_BP))


@pytest.mark.parametrize("seed", range(6))
def test_targets_are_ordered_by_level_then_image(seed: int) -> None:
    batch = draw_batch(seed)

    targets = build_atss_targets(
        batch.grid,
        PaddedBoxes.of(batch.boxes, batch.labels),
        pad_shapes=batch.pad_shapes,
        topk=TOPK,
        num_classes=CLASSES,
    )

    images = range(len(batch.boxes))
    expected_BP = torch.stack([assign_each(batch, image) for image in images])
    labels_BP = torch.full_like(expected_BP, CLASSES)
    for image in images:
        at_objects = expected_BP[image] >= 0
        labels_BP[image, at_objects] = batch.labels[image][expected_BP[image, at_objects]]
    levels = [level.reshape(-1) for level in labels_BP.split(batch.grid.level_counts, dim=1)]
    positives = [int((labels < CLASSES).sum()) for labels in levels]
    assert torch.equal(targets.labels_N, torch.cat(levels))
    assert targets.positive_counts == positives
    assert torch.equal(targets.positive_K, (torch.cat(levels) < CLASSES).nonzero().squeeze(1))
    by_image = [max(int((labels_BP[image] < CLASSES).sum()), 1) for image in images]
    assert targets.num_pos.item() == sum(by_image)


def test_anchors_are_kept_for_a_bounded_number_of_sizes() -> None:
    cache = GridCache(make_generator())
    maps = [
        [torch.zeros(1, 1, -(-side // stride), 4) for stride in STRIDES]
        for side in range(128, 128 + 32 * 20, 32)
    ]

    grids = [cache.get(levels) for levels in maps]

    assert cache.get(maps[-1]) is grids[-1]
    assert cache.get(maps[0]) is not grids[0]
