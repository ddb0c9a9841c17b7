"""PAA chooses positive anchors by their losses; its own losses are mmdet's."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.models import build_detector

from tests.support.training.detectors import make_batch, make_class_names
from tests.support.training.distilled_students import make_detector, make_student
from workers.models.detector_config import build_detector_config

CASES: dict[str, list[list[list[float]]]] = {
    "one object": [[[8.0, 8.0, 40.0, 40.0]]],
    "objects that overlap": [
        [[8.0, 8.0, 40.0, 40.0], [20.0, 4.0, 60.0, 50.0], [30.0, 30.0, 90.0, 95.0]],
        [],
        [[2.0, 2.0, 14.0, 9.0], [50.0, 60.0, 80.0, 70.0]],
    ],
    "an object without candidates": [[[10.0, 10.0, 11.0, 11.0]]],
    "no object": [[], []],
}


@pytest.mark.parametrize("boxes", CASES.values(), ids=CASES.keys())
def test_losses_and_gradients_are_those_of_mmdet(tmp_path: Path, boxes: Any) -> None:
    detector = make_detector("paa")
    student = make_student(tmp_path, detector)
    config = build_detector_config(detector, classes=make_class_names(3))
    mmdet_model = build_detector(config).train()
    mmdet_model.load_state_dict(student.state_dict(), strict=True)
    batch = make_batch(boxes, size=96)

    losses = [model.forward_train(**copy.deepcopy(batch)) for model in (student, mmdet_model)]
    for of_model in losses:
        sum(of_model.values()).backward()

    actual, expected = losses
    assert {name: float(value.detach()) for name, value in actual.items()} == {
        name: float(value.detach()) for name, value in expected.items()
    }
    for parameter, reference in zip(student.parameters(), mmdet_model.parameters(), strict=True):
        assert torch.equal(parameter.grad, reference.grad)


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
