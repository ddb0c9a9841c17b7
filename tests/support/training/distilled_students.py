"""Small detectors with every head, and students with every distillation method."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import ConfigDict
from mmdet.models import build_detector
from torch.nn.modules.batchnorm import _BatchNorm

from configs.spec.compute import Compute
from configs.spec.detector import Detector, Neck, ResNet
from tests.support.training.detectors import make_class_names
from workers.checkpoints.files import save_atomically
from workers.distillation.teacher import Teacher
from workers.models.detector_config import build_detector_config

BOXES = [[[8.0, 8.0, 40.0, 40.0], [20.0, 4.0, 60.0, 50.0]], []]
HEADS: dict[str, dict[str, Any]] = {
    "gfl": {"kind": "gfl", "reg_max": 8},
    "atss": {"kind": "atss"},
    "retina": {"kind": "retina"},
    "retina with one anchor": {"kind": "retina", "anchors": 1},
    "fcos": {"kind": "fcos"},
    "vfnet": {"kind": "vfnet"},
    "tood": {"kind": "tood", "initial_epochs": 0},
    "paa": {"kind": "paa"},
    "yolox": {"kind": "yolox"},
}
ALL_HEADS = HEADS | {"original fcos": {"kind": "fcos", "variant": "original"}}
"""With variants whose computations are a part of those of `HEADS`."""

METHODS: dict[str, dict[str, Any]] = {
    "bckd": {"method": "bckd"},
    "logit_kd": {"method": "logit_kd"},
    "ld": {"method": "ld", "vlr_weight": 0.25},
    "fine_grained": {"method": "fine_grained"},
    "pkd": {"method": "pkd"},
    "cwd": {"method": "cwd"},
    "crosskd": {"method": "crosskd", "after_convs": 1},
    "dist": {"method": "dist"},
    "mgd": {"method": "mgd"},
    "fgd": {"method": "fgd"},
}


def make_detector(
    head: str, *, width: float = 0.125, channels: int = 32, convs: int = 2
) -> Detector:
    return Detector.model_validate(
        {
            "backbone": ResNet(depth=18, width=width),
            "neck": Neck(channels=channels),
            "head": {**ALL_HEADS[head], "convs": convs, "channels": channels},
        }
    )


def make_student(
    folder: Path,
    student: Detector,
    teacher: Detector | None = None,
    method: dict[str, Any] | None = None,
    *,
    teacher_classes: int = 3,
    columns: list[int] | None = None,
    **compute: Any,
) -> Any:
    """Build a student of 3 classes in training mode, distilled if `method` is given."""
    config = build_detector_config(student, classes=make_class_names(3))
    config.bbox_head.type = f"Tandem{config.bbox_head.type}"
    config.update(type="TandemDetector", compute=Compute(**compute).model_dump())
    if teacher is not None:
        teacher_config = build_detector_config(teacher, classes=make_class_names(teacher_classes))
        weights = _draw_teacher_weights(teacher.model_dump_json(), teacher_classes)
        save_atomically({"meta": {}, "state_dict": weights}, folder / "teacher.pth")
        teacher_fields = {
            "config": teacher_config,
            "checkpoint": str(folder / "teacher.pth"),
            "columns": columns,
        }
        config.update(teacher=teacher_fields, distillation=method)
    torch.manual_seed(0)
    built = build_detector(ConfigDict(config))
    built.init_weights()
    randomize_head(built)
    randomize_adapters(built)
    return built.train()


def teach_itself(student: Any, folder: Path, detector: Detector) -> None:
    """Replace the teacher of a student of 3 classes by one that has the student's weights."""
    file = folder / "itself.pth"
    save_atomically({"meta": {}, "state_dict": student.state_dict()}, file)
    config = build_detector_config(detector, classes=make_class_names(3))
    student.teacher = Teacher(config, checkpoint=file, sha256=None, precision="fp32")


@cache
def _draw_teacher_weights(teacher_json: str, num_classes: int) -> dict[str, torch.Tensor]:
    """Random weights of a teacher; many tests share them, as they take a while to draw."""
    teacher = Detector.model_validate_json(teacher_json)
    torch.manual_seed(1)
    model = build_detector(build_detector_config(teacher, classes=make_class_names(num_classes)))
    model.init_weights()
    randomize_head(model)
    weights: dict[str, torch.Tensor] = model.state_dict()
    return weights


def randomize_head(model: Any) -> None:
    """Draw the head's output weights, so that scores differ and losses are informative."""
    for name, parameter in model.bbox_head.named_parameters():
        if re.search(r"(cls|reg|obj)(\.\d+)?\.weight$", name):
            torch.nn.init.normal_(parameter, std=0.1)
        elif re.search(r"obj\.\d+\.bias$", name):  # else no score would exceed a threshold
            torch.nn.init.zeros_(parameter)


def hold_statistics(module: torch.nn.Module) -> None:
    """Have all BatchNorms normalize with their running statistics."""
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.eval()


def randomize_adapters(student: Any) -> None:
    """Draw the adapters' weights that begin at 0, so that those before them get a gradient."""
    for parameter in getattr(student, "adapters", torch.nn.Module()).parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)


def is_supported(head: str, method: str) -> bool:
    """Whether the spec accepts this method with this head."""
    if method == "ld":
        return head == "gfl"
    return method != "crosskd" or make_detector(head).head.has_plain_towers


def list_heads_with_methods() -> list[Any]:
    """Test parameters of every supported head and method.

    Those by default have each head and each method once; the slow ones all others.
    """
    return [
        pytest.param(
            head, method, marks=() if head == "gfl" or method == "bckd" else pytest.mark.slow
        )
        for head in HEADS
        for method in METHODS
        if is_supported(head, method)
    ]
