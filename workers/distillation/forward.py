"""Less precision in the forward pass: where autocast begins, and where it ends."""

from typing import Any

import torch
from torch import Tensor

from configs.spec.compute import Precision
from workers.distillation.batch import Features
from workers.distillation.head_adapters import HeadAdapter, Outputs

_AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context of a forward pass; nothing for fp32 and tf32, whose tensors are fp32."""
    dtype = _AUTOCAST_DTYPES.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def forward_detector(
    images_B3HW: Tensor, detector: Any, *, head_adapter: HeadAdapter, precision: Precision
) -> tuple[Features, Outputs]:
    """What a detector's pyramid and head make of a batch.

    The head's outputs are cast: losses, decoding and nms need whole precision.
    """
    device = images_B3HW.device
    with autocast(device, precision):
        features = tuple(detector.extract_feat(images_B3HW))
    with autocast(device, "fp32" if head_adapter.needs_fp32 else precision):
        given = tuple(maps.float() for maps in features) if head_adapter.needs_fp32 else features
        outputs = detector.bbox_head(given)
    return features, tuple([of_level.float() for of_level in output] for output in outputs)
