"""A detector from RGB pixels to boxes as one graph, normalisation, decoding and NMS inside.

It says what mmdet's own test code says, in operations without a data-dependent branch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from configs.spec.detector import Detector
from workers.distillation.head_adapters import HeadAdapter, build_head_adapter, flatten_positions
from workers.models.detector_config import get_normalization

_LARGEST_STRIDE = 32
"""Images are padded to a multiple of it, as in training (configs/mmdet)."""

_NOTHING = -1.0
"""Score of a candidate that is none."""


class DetectorGraph(nn.Module):
    """Boxes (K, 4), scores (K,) and labels (K,) of one image, the most confident first."""

    def __init__(self, model: Any, detector: Detector) -> None:
        super().__init__()
        self._model = model
        self._view: HeadAdapter = build_head_adapter(model.bbox_head)
        self._test = model.bbox_head.test_cfg
        normalize = get_normalization(detector)
        self._reverses_channels = not normalize["to_rgb"]
        self._mean_1311 = nn.Buffer(_as_channels(normalize["mean"]))
        self._scale_1311 = nn.Buffer(1.0 / _as_channels(normalize["std"]))

    def forward(self, image_13HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`image_13HW`: RGB from 0 to 255 in fp32, resized, neither normalised nor padded."""
        height, width = image_13HW.shape[-2:]
        outputs = self._model.bbox_head(self._model.extract_feat(self._prepared(image_13HW)))
        levels = [self._candidates(outputs, level) for level in range(len(self._view.strides))]
        boxes_M4, scores_M, labels_M = (torch.cat(parts) for parts in zip(*levels, strict=True))
        left, top, right, bottom = boxes_M4.unbind(1)
        across = (left.clamp(0, width), right.clamp(0, width))
        down = (top.clamp(0, height), bottom.clamp(0, height))
        inside_M4 = torch.stack([across[0], down[0], across[1], down[1]], dim=1)
        return self._suppressed(inside_M4, scores_M, labels_M)

    def _prepared(self, image_13HW: Tensor) -> Tensor:
        height, width = image_13HW.shape[-2:]
        pixels = image_13HW.flip(1) if self._reverses_channels else image_13HW
        normalized = (pixels - self._mean_1311) * self._scale_1311
        return F.pad(normalized, (0, -width % _LARGEST_STRIDE, 0, -height % _LARGEST_STRIDE))

    def _candidates(self, outputs: Any, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """The `nms_pre` best of a level: boxes in pixels, scores, labels."""
        classes = self._view.head.cls_out_channels
        boxes_N4 = self._view.decode_boxes(outputs, level) * self._view.strides[level]
        scores = self._view.class_logits(outputs, level).sigmoid().flatten()
        scores = torch.where(scores > self._test.score_thr, scores, _NOTHING)
        # Filled up, so that there are always as many as are asked for.
        most = self._test.nms_pre
        best, index = F.pad(scores, (0, most), value=_NOTHING).topk(most)
        position = (index // classes).clamp(max=boxes_N4.shape[0] - 1)
        if self._has_centerness(outputs):
            centerness_N = flatten_positions(outputs[2][level], 1).flatten().sigmoid()
            best = torch.where(best > 0, best * centerness_N[position], best)
        return boxes_N4[position], best, index % classes

    def _has_centerness(self, outputs: Any) -> bool:
        return len(outputs) == 3

    def _suppressed(
        self, boxes_M4: Tensor, scores_M: Tensor, labels_M: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """NMS by class: classes are moved apart, as mmcv does, so that they never overlap."""
        exists_M1 = (scores_M > 0)[:, None]
        known_M4 = torch.where(exists_M1, boxes_M4, 0.0)
        apart_M4 = known_M4 + (labels_M.to(boxes_M4) * (known_M4.max() + 1))[:, None]
        # What is no candidate is all in one place of its own, where it suppresses itself.
        nowhere = boxes_M4.new_tensor([-9.0, -9.0, -8.0, -8.0])
        kept = nms(
            torch.where(exists_M1, apart_M4, nowhere), scores_M, self._test.nms.iou_threshold
        )[: self._test.max_per_img]
        kept = kept[scores_M[kept] > 0]
        return boxes_M4[kept], scores_M[kept], labels_M[kept]


def _as_channels(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)
