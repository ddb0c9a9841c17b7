"""Tiny detectors and batches, valid by default and fast to train."""

from typing import Any

import torch
from mmcv import ConfigDict
from mmdet.models import build_detector, build_head
from torch import Tensor

from configs.spec.detector import Detector, GflHead, Neck, ResNet
from workers.distillation import detector, heads
from workers.models.detector_config import build_detector_config

REGISTERED = (detector.TandemDetector, heads.TandemGFLHead)


def make_detector(
    *, width: float = 0.125, neck: int = 32, channels: int = 32, reg_max: int = 8
) -> Detector:
    return Detector(
        backbone=ResNet(depth=18, width=width),
        neck=Neck(channels=neck),
        head=GflHead(convs=1, channels=channels, reg_max=reg_max),
    )


def make_class_names(count: int) -> tuple[str, ...]:
    return tuple(f"class-{index}" for index in range(count))


def make_head(spec: Detector, *, num_classes: int) -> Any:
    model = build_detector_config(spec, classes=make_class_names(num_classes))
    return build_head(
        ConfigDict(
            model.bbox_head,
            type="TandemGFLHead",
            train_cfg=model.train_cfg,
            test_cfg=model.test_cfg,
        )
    )


def make_mmdet_gfl(spec: Detector, *, num_classes: int, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = build_detector(build_detector_config(spec, classes=make_class_names(num_classes)))
    model.init_weights()
    return model


def make_batch(
    boxes: list[list[list[float]]], *, size: int = 64, padded_to: int | None = None
) -> dict[str, Any]:
    """A batch with one image for each list of boxes; all objects are of class 0."""
    side = padded_to or size
    images = torch.rand(len(boxes), 3, side, side, generator=torch.Generator().manual_seed(1))
    shape = (size, size, 3)
    meta = {
        "img_shape": shape,
        "pad_shape": shape,
        "ori_shape": shape,
        "scale_factor": 1.0,
        "flip": False,
    }
    return {
        "img": images,
        "img_metas": [meta | {"seed": position} for position in range(len(boxes))],
        "gt_bboxes": [_boxes_tensor(image_boxes) for image_boxes in boxes],
        "gt_labels": [torch.zeros(len(image_boxes), dtype=torch.long) for image_boxes in boxes],
    }


def _boxes_tensor(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
