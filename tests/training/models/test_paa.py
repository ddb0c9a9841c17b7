"""PAA chooses positive anchors by their losses; its own losses are mmdet's."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training.detectors import make_batch
from tests.support.training.distilled_students import make_detector, make_student
from tests.support.training.mmdet_losses import OVERLAPPING_BOXES, assert_losses_are_mmdets

CASES: dict[str, list[list[list[float]]]] = {
    "one object": [[[8.0, 8.0, 40.0, 40.0]]],
    "objects that overlap": OVERLAPPING_BOXES,
    "an object without candidates": [[[10.0, 10.0, 11.0, 11.0]]],
    "no object": [[], []],
}


@pytest.mark.parametrize("boxes", CASES.values(), ids=CASES.keys())
def test_losses_and_gradients_are_those_of_mmdet(tmp_path: Path, boxes: Any) -> None:
    detector = make_detector("paa")

    assert_losses_are_mmdets(make_student(tmp_path, detector), detector, boxes)


def test_positives_are_some_of_the_candidates(tmp_path: Path) -> None:
    head = make_student(tmp_path, make_detector("paa")).bbox_head
    batch = make_batch(CASES["objects that overlap"], size=96)
    generator = torch.Generator().manual_seed(0)
    maps = [
        [torch.randn(3, width, side, side, generator=generator) for side in (12, 6, 3, 2, 1)]
        for width in (3, 4, 1)
    ]

    head.loss(*maps, batch["gt_bboxes"], batch["gt_labels"], batch["img_metas"])

    anchors = head.get_anchors(
        [level.shape[-2:] for level in maps[0]], batch["img_metas"], device="cpu"
    )
    labels, weights = head.targets
    candidates, *_ = head.get_targets(
        *anchors, batch["gt_bboxes"], batch["img_metas"], gt_labels_list=batch["gt_labels"]
    )
    is_positive = torch.cat([level < 3 for level in labels], dim=1)
    is_candidate = torch.stack([of_image < 3 for of_image in candidates])
    assert 0 < int(is_positive.sum()) < int(is_candidate.sum())
    assert not (is_positive & ~is_candidate).any()
    assert all((level == 1).all() for level in weights)


def test_a_loss_that_is_not_finite_reaches_the_training_loop(tmp_path: Path) -> None:
    student = make_student(tmp_path, make_detector("paa"))
    torch.nn.init.constant_(student.bbox_head.atss_reg.bias, math.nan)

    losses = student.forward_train(**make_batch(CASES["one object"]))

    assert math.isnan(losses["loss_bbox"].detach())
