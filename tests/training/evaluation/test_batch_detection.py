"""Detections of a batch equal those of mmdet's `simple_test`, with one suppression for all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.ops import nms
from torch import Tensor

from tests.support.training.distilled_students import ALL_HEADS, make_detector, make_student
from workers.evaluation import suppression
from workers.evaluation.detection import build_batch_detection

SHAPES = [(96, 64), (64, 96), (90, 61)]
"""Height and width of the images before padding."""


def make_test_batch(*, original_sizes: bool = True) -> dict[str, Any]:
    """Images of different sizes, of which the original ones are larger, as a loader yields them."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(len(SHAPES), 3, 96, 96, generator=generator)
    scales = [1.0, 0.37, 2.3] if original_sizes else [1.0, 1.0, 1.0]
    metas = [
        {
            "img_shape": (*shape, 3),
            "scale_factor": np.array([scale, 1.01 * scale, scale, 1.01 * scale], dtype=np.float32),
        }
        for shape, scale in zip(SHAPES, scales, strict=True)
    ]
    return {"img": [images], "img_metas": [metas]}


def make_detector_with(folder: Path, head: str, **test_cfg: float) -> Any:
    """A detector that has learnt nothing, but reports boxes."""
    detector = make_student(folder, make_detector(head)).eval()
    detector.bbox_head.test_cfg.update({"score_thr": 1e-3, **test_cfg})
    return detector


def detect_with_mmdet(detector: Any, batch: dict[str, Any]) -> list[list[np.ndarray]]:
    detections: list[list[np.ndarray]] = detector(return_loss=False, rescale=True, **batch)
    return detections


def assert_equal_detections(
    actual: list[list[np.ndarray]], expected: list[list[np.ndarray]]
) -> None:
    assert [len(of_image) for of_image in actual] == [len(of_image) for of_image in expected]
    for of_image, expected_of_image in zip(actual, expected, strict=True):
        for boxes, expected_boxes in zip(of_image, expected_of_image, strict=True):
            assert boxes.dtype == expected_boxes.dtype
            np.testing.assert_allclose(boxes, expected_boxes, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("head", ALL_HEADS)
@pytest.mark.parametrize(
    "limits",
    [{}, {"nms_pre": 7, "max_per_img": 5}, {"score_thr": 0.99999}],
    ids=["as configured", "few", "none"],
)
def test_detections_are_those_of_mmdet(tmp_path: Path, head: str, limits: dict[str, float]) -> None:
    detector, batch = make_detector_with(tmp_path, head, **limits), make_test_batch()
    with torch.inference_mode():
        expected = detect_with_mmdet(detector, batch)

        actual = build_batch_detection(detector)(batch)

    assert_equal_detections(actual, expected)
    num_detections = sum(len(boxes) for of_image in actual for boxes in of_image)
    assert (num_detections == 0) is ("score_thr" in limits)


def test_suppression_by_image_is_that_of_mmcv() -> None:
    boxes, scores = draw_boxes(90)
    images = torch.tensor([0] * 40 + [2] * 50)

    survives = suppression.suppress_by_image(boxes, scores, images, iou_threshold=0.3)

    expected = torch.zeros(90, dtype=torch.bool)
    for first, last in ((0, 40), (40, 90)):
        _, survivors = nms(boxes[first:last], scores[first:last], iou_threshold=0.3)
        expected[first + survivors] = True
    assert torch.equal(survives, expected)
    assert 5 < int(survives.sum()) < 85


def draw_boxes(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corners = 40 * torch.rand(count, 2, generator=generator)
    extents = 30 * torch.rand(count, 2, generator=generator)
    return torch.cat([corners, corners + extents], dim=1), torch.rand(count, generator=generator)


@pytest.mark.parametrize("max_pairs", [1 << 22, 3])
def test_suppression_is_that_of_mmcv_in_each_group(
    monkeypatch: pytest.MonkeyPatch, max_pairs: int
) -> None:
    monkeypatch.setattr(suppression, "_MAX_PAIRS", max_pairs)
    boxes, scores = draw_boxes(120)
    groups = torch.tensor([0] * 50 + [3] * 60 + [4] * 10)
    order = torch.cat(
        [
            (groups == group).nonzero().squeeze(1)[scores[groups == group].argsort(descending=True)]
            for group in (0, 3, 4)
        ]
    )

    survives = suppression.suppress_overlaps(boxes[order], groups[order], iou_threshold=0.3)

    expected = torch.zeros(120, dtype=torch.bool)
    for group in (0, 3, 4):
        index = (groups == group).nonzero().squeeze(1)
        _, survivors = nms(boxes[index], scores[index], iou_threshold=0.3)
        expected[index[survivors]] = True
    assert torch.equal(survives, expected[order])
    assert 10 < int(survives.sum()) < 110


def test_no_boxes_are_suppressed_without_boxes() -> None:
    no_groups = torch.zeros(0, dtype=torch.int64)

    assert suppression.suppress_overlaps(torch.zeros(0, 4), no_groups, iou_threshold=0.5).shape == (
        0,
    )
