"""The forward pass of a detector under autocast."""

from typing import Any

import torch
from torch import Tensor

from configs.spec.compute import Precision
from workers.distillation.batch import Features
from workers.distillation.head_adapters.base import HeadAdapter, Outputs

_AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast to bf16 or fp16; disabled for fp32 and tf32, whose tensors are fp32."""
    dtype = _AUTOCAST_DTYPES.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def forward_detector(
    images_B3HW: Tensor, detector: Any, *, head_adapter: HeadAdapter, precision: Precision
) -> tuple[Features, Outputs]:
    """Run backbone, pyramid and head; features keep their dtype, head outputs are cast to fp32.

    Losses, decoding and NMS need fp32.
    """
    device = images_B3HW.device
    with autocast(device, precision):
        features = tuple(detector.extract_feat(images_B3HW))
    with autocast(device, "fp32" if head_adapter.needs_fp32 else precision):
        outputs = detector.bbox_head(head_adapter.prepare_features(features))
    return features, tuple([level_maps.float() for level_maps in output] for output in outputs)
