"""Detects objects in whole batches, with the results of mmdet's `simple_test`.

mmdet decodes, filters and suppresses image by image and level by level, and each of these steps has
a size that the host must know. Here all images and levels of a batch share each step.

Shapes: B images, N positions of all levels, C classes, M candidates, K groups of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from mmdet.models.dense_heads import (
    ATSSHead,
    FCOSHead,
    GFLHead,
    PAAHead,
    RetinaHead,
    TOODHead,
    VFNetHead,
)
from mmdet.models.detectors import SingleStageDetector
from torch import Tensor

from workers.data.batches import Batch
from workers.evaluation.suppression import suppress_by_image, suppress_overlaps

Detections = list[np.ndarray]
"""One image's boxes by class, each (N, 5): left, top, right, bottom in pixels, score."""

DetectBatch = Callable[[Batch], list[Detections]]
"""The detections of each image of a batch, which an image loader has collated."""

_HEADS = (GFLHead, ATSSHead, RetinaHead, FCOSHead, VFNetHead, TOODHead)


def build_batch_detection(detector: Any) -> DetectBatch:
    """A function that runs an mmdet detector; results are those of `simple_test` with `rescale`.

    Detectors with other heads, as YOLOX's, and those with PAA's, which votes about boxes after NMS,
    are called as mmdet's testing functions call them.
    """
    head = getattr(detector, "bbox_head", None)
    is_known = isinstance(head, _HEADS) and not isinstance(head, PAAHead)
    if isinstance(detector, SingleStageDetector) and is_known:
        return _BatchDetection(detector)
    return lambda batch: list(detector(return_loss=False, rescale=True, **batch))


class _BatchDetection:
    def __init__(self, detector: Any) -> None:
        self._detector = detector

    def __call__(self, batch: Batch) -> list[Detections]:
        (images_B3HW,), (metas,) = batch["img"], batch["img_metas"]
        head = self._detector.bbox_head
        outputs = head(self._detector.extract_feat(images_B3HW))
        candidates = _list_candidates(head, outputs, metas)
        survivors = _suppress(candidates, head, num_images=len(metas))
        best = survivors.select_best(
            survivors.image_M, num_groups=len(metas), limit=head.test_cfg.max_per_img
        )
        return _split(best, num_images=len(metas), num_classes=head.num_classes)


@dataclass(frozen=True)
class _Candidates:
    """Boxes with image, class and score, in pixels of the original images."""

    image_M: Tensor
    label_M: Tensor
    score_M: Tensor
    box_M4: Tensor

    def select(self, index: Tensor) -> Self:
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))

    def select_best(self, group_M: Tensor, *, num_groups: int, limit: int) -> Self:
        """The `limit` best of each group."""
        return self.select(_find_best(self.score_M, group_M, num_groups=num_groups, limit=limit))


def _list_candidates(
    head: Any, outputs: Sequence[list[Tensor]], metas: list[dict[str, Any]]
) -> _Candidates:
    """The best `nms_pre` scores above the threshold of each image and level, decoded."""
    class_maps, box_maps, *factor_maps = outputs
    priors = head.prior_generator.grid_priors(
        [maps.shape[-2:] for maps in class_maps],
        dtype=class_maps[0].dtype,
        device=class_maps[0].device,
    )
    score_BNC = _flatten_levels(class_maps, head.cls_out_channels)
    if not isinstance(head, TOODHead):
        score_BNC = score_BNC.sigmoid()
    image_M, position_M, label_M = (score_BNC > head.test_cfg.score_thr).nonzero(as_tuple=True)
    score_M = score_BNC[image_M, position_M, label_M]
    level_N = _repeat_by_level(range(len(priors)), priors)
    best = _find_best(
        score_M,
        image_M * len(priors) + level_N[position_M],
        num_groups=len(metas) * len(priors),
        limit=head.test_cfg.nms_pre,
    )
    image_M, position_M, label_M, score_M = (
        values[best] for values in (image_M, position_M, label_M, score_M)
    )
    box_BND = _flatten_levels(
        box_maps, box_maps[0].shape[1] // head.prior_generator.num_base_priors[0]
    )
    box_M4 = _decode(head, box_BND[image_M, position_M], priors=priors, position_M=position_M)
    if factor_maps:
        score_M = score_M * _flatten_levels(factor_maps[0], 1)[image_M, position_M, 0].sigmoid()
    # mmdet leaves TOOD's boxes as they are, also beyond the image.
    box_M4 = _to_original(box_M4, image_M, metas, clips=not isinstance(head, TOODHead))
    return _Candidates(image_M, label_M, score_M, box_M4)


def _flatten_levels(maps: list[Tensor], width: int) -> Tensor:
    """Maps (B, A * width, H, W) by level as (B, N, width): by level, row, column and anchor."""
    flat = [level.permute(0, 2, 3, 1).reshape(len(level), -1, width) for level in maps]
    return torch.cat(flat, dim=1).float()


def _repeat_by_level(values: Sequence[int], priors: list[Tensor]) -> Tensor:
    """A value for each level, as an int64 tensor (N,)."""
    return torch.cat(
        [
            torch.full((len(level),), value, device=level.device)
            for value, level in zip(values, priors, strict=True)
        ]
    )


def _find_best(score_M: Tensor, group_M: Tensor, *, num_groups: int, limit: int) -> Tensor:
    """Indices of the `limit` best scores of each group, by group, then by descending score."""
    order = _sort_groups(score_M, group_M)
    sorted_M = group_M[order]
    groups_K = torch.arange(num_groups, device=group_M.device)
    first_K = torch.searchsorted(sorted_M, groups_K)
    rank_M = torch.arange(len(order), device=group_M.device) - first_K[sorted_M]
    return order[(rank_M < limit).nonzero().squeeze(1)]


def _sort_groups(score_M: Tensor, group_M: Tensor) -> Tensor:
    """Indices by group, then by descending score; equal scores keep their order."""
    by_score = score_M.argsort(descending=True, stable=True)
    return by_score[group_M[by_score].argsort(stable=True)]


def _decode(
    head: Any, prediction_MD: Tensor, *, priors: list[Tensor], position_M: Tensor
) -> Tensor:
    """Boxes (M, 4) in pixels of the resized images; they may exceed these."""
    prior_MD = torch.cat(priors)[position_M]
    if isinstance(head, GFLHead | TOODHead):
        strides = [int(stride) for stride, _ in head.prior_generator.strides]
        stride_M1 = _repeat_by_level(strides, priors)[position_M][:, None]
        if isinstance(head, TOODHead):
            return prediction_MD * stride_M1
        prior_MD = head.anchor_center(prior_MD)
        prediction_MD = head.integral(prediction_MD) * stride_M1
    box_M4: Tensor = head.bbox_coder.decode(prior_MD, prediction_MD)
    return box_M4


def _to_original(
    box_M4: Tensor, image_M: Tensor, metas: list[dict[str, Any]], *, clips: bool
) -> Tensor:
    """Clip the boxes to their images if `clips`, and scale them to the original sizes."""
    heights_widths = [meta["img_shape"][:2] for meta in metas]
    limits = [[width, height, width, height] for height, width in heights_widths]
    scales = [np.broadcast_to(meta["scale_factor"], 4) for meta in metas]
    constants_2B4 = torch.from_numpy(np.array([limits, scales], dtype=np.float32))
    limit_B4, scale_B4 = constants_2B4.to(box_M4.device)
    if clips:
        box_M4 = torch.minimum(box_M4.clamp(min=0), limit_B4[image_M])
    return box_M4 / scale_B4[image_M]


def _suppress(candidates: _Candidates, head: Any, *, num_images: int) -> _Candidates:
    """The candidates that no better one of their image and class suppresses."""
    group_M = candidates.image_M * head.num_classes + candidates.label_M
    order = _sort_groups(candidates.score_M, group_M)
    ordered = candidates.select(order)
    # mmdet shifts the boxes of each class, so that boxes of different classes do not overlap. It
    # makes no difference here, but for the rounding of coordinates.
    largest_B = ordered.box_M4.new_zeros(num_images).scatter_reduce_(
        0, ordered.image_M, ordered.box_M4.amax(dim=1), "amax"
    )
    shift_M = ordered.label_M.to(ordered.box_M4) * (largest_B[ordered.image_M] + 1)
    box_M4, threshold = ordered.box_M4 + shift_M[:, None], head.test_cfg.nms.iou_threshold
    if box_M4.device.type == "cpu":
        survives_M = suppress_by_image(
            box_M4, ordered.score_M, ordered.image_M, iou_threshold=threshold
        )
    else:
        survives_M = suppress_overlaps(box_M4, group_M[order], iou_threshold=threshold)
    return ordered.select(survives_M.nonzero().squeeze(1))


def _split(detected: _Candidates, *, num_images: int, num_classes: int) -> list[Detections]:
    """Detections by image and class, each by descending score, with one copy to the host."""
    group_M = detected.image_M * num_classes + detected.label_M
    columns_M6 = torch.cat(
        [detected.box_M4, detected.score_M[:, None], group_M[:, None].float()], dim=1
    )
    rows_M6 = columns_M6.cpu().numpy()
    rows_M6 = rows_M6[np.lexsort((-rows_M6[:, 4], rows_M6[:, 5]))]
    first_groups = np.arange(1, num_images * num_classes)
    bounds = np.searchsorted(rows_M6[:, 5], first_groups)
    by_group = np.split(np.ascontiguousarray(rows_M6[:, :5]), bounds)
    return [
        by_group[first : first + num_classes]
        for first in range(0, num_images * num_classes, num_classes)
    ]
