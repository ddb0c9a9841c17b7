"""The input of both implementations in one file: weights, images and boxes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.models import build_detector

from configs.spec.detector import Detector
from workers.models.detector_config import build_detector_config

CLASSES = tuple(f"class-{number}" for number in range(80))
IMAGE_SIZE = (320, 512)
TEACHER_DEPTH = 101
LEARNING_RATE = 1e-4
CLS_WEIGHT, LOC_WEIGHT = 1.0, 4.0
"""Published weights of BCKD's two terms."""


@dataclass(frozen=True)
class StepCase:
    """A teacher-student pair of GFL detectors and a batch."""

    student_depth: int
    num_images: int = 2
    boxes_per_image: int = 7

    @property
    def name(self) -> str:
        return f"R{TEACHER_DEPTH} -> R{self.student_depth}"


def describe_detector(depth: int, *, is_student: bool) -> Detector:
    """A GFL detector as published; a student has a frozen first stage."""
    backbone: dict[str, Any] = {"depth": depth, "pretrained": None}
    if is_student:
        backbone |= {"frozen_stages": 1, "norm_eval": True}
    return Detector.model_validate({"backbone": backbone, "head": {"kind": "gfl"}})


def write_case(case: StepCase, file: Path) -> Path:
    """Write random weights and a random batch; the same for the same case."""
    torch.manual_seed(0)
    height, width = IMAGE_SIZE
    torch.save(
        {
            "student": _make_weights(case.student_depth, is_student=True),
            "teacher": _make_weights(TEACHER_DEPTH, is_student=False),
            "student_depth": case.student_depth,
            "teacher_depth": TEACHER_DEPTH,
            "learning_rate": LEARNING_RATE,
            "cls_weight": CLS_WEIGHT,
            "loc_weight": LOC_WEIGHT,
            "images": torch.randn(case.num_images, 3, height, width),
            "boxes": [_make_boxes(case.boxes_per_image) for _ in range(case.num_images)],
            "labels": [
                torch.randint(len(CLASSES), (case.boxes_per_image,)) for _ in range(case.num_images)
            ],
        },
        file,
    )
    return file


def _make_weights(depth: int, *, is_student: bool) -> dict[str, Any]:
    """Random weights whose outputs differ from position to position, as those of a trained head."""
    detector = build_detector(
        build_detector_config(describe_detector(depth, is_student=is_student), classes=CLASSES)
    )
    detector.init_weights()
    torch.nn.init.normal_(detector.bbox_head.gfl_cls.weight, std=0.02)
    torch.nn.init.normal_(detector.bbox_head.gfl_reg.weight, std=0.02)
    return dict(detector.state_dict())


def _make_boxes(count: int) -> torch.Tensor:
    """Boxes (count, 4) of 16 to 256 pixels within the image."""
    height, width = IMAGE_SIZE
    sizes = 2.0 ** (4.0 + 4.0 * torch.rand(count, 2))
    left_top = torch.rand(count, 2) * (torch.tensor([width, height]) - sizes)
    return torch.cat([left_top, left_top + sizes], dim=1)
