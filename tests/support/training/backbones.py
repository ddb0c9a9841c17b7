"""Small detectors with every kind of backbone, and BatchNorms as after a training."""

from typing import Any

import torch
from mmcv import ConfigDict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from configs.spec.detector import Detector
from tests.support.training.detectors import make_class_names
from workers.models.detector_config import build_detector_config

BACKBONES: dict[str, dict[str, Any]] = {
    "resnet 18": {"kind": "resnet", "depth": 18, "width": 0.25},
    "resnet 50": {"kind": "resnet", "depth": 50, "width": 0.125},
    "resnet 50 of Caffe": {"kind": "resnet", "depth": 50, "width": 0.125, "style": "caffe"},
    "resnext": {"kind": "resnext", "depth": 50, "groups": 2},
    "mobilenet_v2": {"kind": "mobilenet_v2", "width": 0.25},
    "efficientnet_lite": {"kind": "efficientnet_lite", "variant": 0},
    "swin": {"kind": "swin", "width": 0.25},
    "csp_darknet": {"kind": "csp_darknet", "size": "tiny"},
}


def make_config(backbone: str, **changes: Any) -> ConfigDict:
    """The config of a GFL detector with this backbone and 3 classes."""
    detector = Detector.model_validate(
        {
            "backbone": {**BACKBONES[backbone], "pretrained": None, **changes},
            "neck": {"channels": 32},
            "head": {"kind": "gfl", "convs": 1, "channels": 32},
        }
    )
    return build_detector_config(detector, classes=make_class_names(3))


def randomize_norms(model: nn.Module) -> None:
    """Draw parameters and statistics, so that a BatchNorm is not the identity."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
