"""A detector from RGB pixels to boxes as one graph with normalization, decoding and NMS.

Gives the same results as mmdet's inference code, without data-dependent control flow.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from configs.spec.detector import Detector
from workers.distillation.head_adapters.base import HeadAdapter
from workers.distillation.head_adapters.point_heads import YoloxHeadAdapter
from workers.distillation.head_adapters.positions import flatten_positions
from workers.distillation.head_adapters.registry import build_head_adapter
from workers.models.detector_config import get_normalization, get_padding

_MAX_STRIDE = 32
"""Images are padded to a multiple of it, as in training (configs/mmdet)."""

_NO_CANDIDATE = -1.0
"""Score of padding among the candidates."""


class DetectorGraph(nn.Module):
    """Predicts boxes (K, 4), scores (K,) and labels (K,) of one image, by descending score."""

    def __init__(self, model: Any, detector: Detector) -> None:
        super().__init__()
        self._model = model
        self._head_adapter: HeadAdapter = build_head_adapter(model.bbox_head)
        self._test_config = model.bbox_head.test_cfg
        normalize = get_normalization(detector)
        self._reverses_channels = not normalize["to_rgb"]
        self._padding = get_padding(detector)
        self._mean_1311 = nn.Buffer(_to_channels(normalize["mean"]))
        self._scale_1311 = nn.Buffer(1.0 / _to_channels(normalize["std"]))

    def forward(self, image_13HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`image_13HW` is resized RGB, 0 to 255 in fp32, neither normalized nor padded."""
        height, width = image_13HW.shape[-2:]
        outputs = self._model.bbox_head(self._model.extract_feat(self._preprocess(image_13HW)))
        levels = [
            self._candidates(outputs, level) for level in range(len(self._head_adapter.strides))
        ]
        boxes_M4, scores_M, labels_M = (torch.cat(columns) for columns in zip(*levels, strict=True))
        if self._head_adapter.clips_boxes:
            left_edge, top_edge, right_edge, bottom_edge = boxes_M4.unbind(1)
            x_edges = (left_edge.clamp(0, width), right_edge.clamp(0, width))
            y_edges = (top_edge.clamp(0, height), bottom_edge.clamp(0, height))
            boxes_M4 = torch.stack([x_edges[0], y_edges[0], x_edges[1], y_edges[1]], dim=1)
        return self._apply_nms(boxes_M4, scores_M, labels_M)

    def _preprocess(self, image_13HW: Tensor) -> Tensor:
        height, width = image_13HW.shape[-2:]
        pixels = image_13HW.flip(1) if self._reverses_channels else image_13HW
        normalized = (pixels - self._mean_1311) * self._scale_1311
        edges = (0, -width % _MAX_STRIDE, 0, -height % _MAX_STRIDE)
        return F.pad(normalized, edges, value=self._padding)

    def _candidates(self, outputs: Any, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """The candidates of a level: boxes in pixels, scores and labels."""
        boxes_N4 = (
            self._head_adapter.decode_boxes(outputs, level) * self._head_adapter.strides[level]
        )
        if isinstance(self._head_adapter, YoloxHeadAdapter):
            best_N, labels_N = self._head_adapter.best_classes(outputs, level)
            is_candidate_N = best_N >= self._test_config.score_thr
            return boxes_N4, torch.where(is_candidate_N, best_N, _NO_CANDIDATE), labels_N
        return self._best_candidates(outputs, level, boxes_N4)

    def _best_candidates(
        self, outputs: Any, level: int, boxes_N4: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The `nms_pre` best candidates of a level."""
        classes = self._head_adapter.head.cls_out_channels
        scores = self._head_adapter.class_logits(outputs, level).sigmoid().flatten()
        scores = torch.where(scores > self._test_config.score_thr, scores, _NO_CANDIDATE)
        # Padded, so that topk always has enough elements.
        num_candidates = self._test_config.nms_pre
        best, index = F.pad(scores, (0, num_candidates), value=_NO_CANDIDATE).topk(num_candidates)
        position = (index // classes).clamp(max=boxes_N4.shape[0] - 1)
        if self._has_centerness(outputs):
            centerness_N = flatten_positions(outputs[2][level], 1).flatten().sigmoid()
            best = torch.where(best > 0, best * centerness_N[position], best)
        return boxes_N4[position], best, index % classes

    def _has_centerness(self, outputs: Any) -> bool:
        return len(outputs) == 3

    def _apply_nms(
        self, boxes_M4: Tensor, scores_M: Tensor, labels_M: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply NMS by class: as in mmcv, boxes are offset so that classes never overlap."""
        exists_M1 = (scores_M > 0)[:, None]
        valid_M4 = torch.where(exists_M1, boxes_M4, 0.0)
        offset_M4 = valid_M4 + (labels_M.to(boxes_M4) * (valid_M4.max() + 1))[:, None]
        # Padding gets the same box outside of the image, so that it suppresses itself.
        outside_4 = boxes_M4.new_tensor([-9.0, -9.0, -8.0, -8.0])
        indices = nms(
            torch.where(exists_M1, offset_M4, outside_4),
            scores_M,
            self._test_config.nms.iou_threshold,
        )[: self._test_config.max_per_img]
        indices = indices[scores_M[indices] > 0]
        return boxes_M4[indices], scores_M[indices], labels_M[indices]


def _to_channels(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)
