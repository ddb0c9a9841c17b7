"""COCO's average precision with a weight for each image, as a bootstrap needs it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.protocol.comparison import MAP_PARTS
from workers.analysis.matches import AREAS, IOUS, Matches

_RECALLS = np.linspace(0.0, 1.0, 101)
"""Recall thresholds of COCO, with the same rounding."""

_EPSILON = np.spacing(1)
_ROUNDING = 1e-9
_CHUNK_SIZE = 1 << 18
"""Resamples times detections per chunk, so that a chunk stays in a core's cache."""

_ALL, _ALL_IOUS = 0, slice(None)
_PART_INDEX: dict[str, tuple[int, int | slice]] = {
    "bbox_mAP": (_ALL, _ALL_IOUS),
    "bbox_mAP_50": (_ALL, IOUS.index(0.5)),
    "bbox_mAP_75": (_ALL, IOUS.index(0.75)),
    "bbox_mAP_s": (AREAS.index("s"), _ALL_IOUS),
    "bbox_mAP_m": (AREAS.index("m"), _ALL_IOUS),
    "bbox_mAP_l": (AREAS.index("l"), _ALL_IOUS),
}


@dataclass(frozen=True)
class Ranking:
    """A model's detections, sorted once and prepared for fast sums of image weights.

    Precision is only needed at true positives. So only these are enumerated by area and threshold:
    H hits, ordered by area, threshold, class and rank, in S series, one for each area, threshold
    and class with any hits. All detections count toward the number of detections so far: cumulative
    sums are built over K counters once, and each hit takes the difference of two sums. Whether a
    detection is ignored only depends on the threshold if it was matched, so there are two kinds of
    counters: for each area the detections that count at IoU 0.95, and for each threshold the
    differences from those. Further letters: I images, C classes, A areas, T thresholds.
    """

    classes: int
    objects_IX: NDArray[Any]
    """Number of objects by image, class and area, X = C * A."""

    hit_image_H: NDArray[Any]
    hit_objects_H: NDArray[Any]
    """The column of `objects_IX` that is the denominator of its recall."""

    hit_series_H: NDArray[Any]
    """Index of its series."""

    series_start_S: NDArray[Any]
    """The first hit of each series."""

    series_place_S: NDArray[Any]
    """Flat index of its area, threshold and class, in A * T * C."""

    column_starts: tuple[int, ...]
    """The first hit of each area and threshold with any hits, and the end."""

    offset_H: NDArray[Any]
    """Decreases with the class, so that running maxima do not cross classes."""

    counter_image_K: NDArray[Any]
    counter_sign_K: NDArray[Any]
    spans_4H: NDArray[Any]
    """Start and end of each hit's range of counters, for the first and the second kind."""


def rank_detections(matches: Matches) -> Ranking:
    """Sort a model's detections once, for any number of weights."""
    order_D = np.lexsort((-matches.score_D, matches.class_D))
    class_D, image_D = matches.class_D[order_D], matches.image_D[order_D]
    counts_ATD = ~matches.ignored_DAT[order_D].transpose(1, 2, 0)
    area_H, iou_H, rank_H = np.nonzero(matches.right_DAT[order_D].transpose(1, 2, 0))
    classes = len(matches.class_names)
    class_H = class_D[rank_H]
    index_H = (area_H * len(IOUS) + iou_H) * classes + class_H
    indices_S, start_S, series_H = np.unique(index_H, return_index=True, return_inverse=True)
    columns = np.arange(len(AREAS) * len(IOUS) + 1)
    counter_image_K, counter_sign_K, spans_4H = _counters(
        counts_ATD, image_D, at=(area_H, iou_H, rank_H), first_H=np.searchsorted(class_D, class_H)
    )
    return Ranking(
        classes=classes,
        objects_IX=matches.objects_ICA.reshape(len(matches.files), -1).astype(np.float64),
        hit_image_H=image_D[rank_H],
        hit_objects_H=class_H * len(AREAS) + area_H,
        hit_series_H=series_H,
        series_start_S=start_S,
        series_place_S=indices_S,
        column_starts=tuple(
            np.unique(np.searchsorted(area_H * len(IOUS) + iou_H, columns)).tolist()
        ),
        offset_H=(classes - 1.0) - class_H,
        counter_image_K=counter_image_K,
        counter_sign_K=counter_sign_K,
        spans_4H=spans_4H,
    )


def average_precision(ranking: Ranking, weights_BI: NDArray[Any]) -> NDArray[Any]:
    """AP by resample, area, threshold and class, (B, A, T, C), with images weighted by row.

    NaN where a resample has no objects of the class and area.
    """
    objects_BX = weights_BI.astype(np.float64) @ ranking.objects_IX
    shape = (len(weights_BI), len(AREAS), len(IOUS), ranking.classes)
    summed = np.zeros((shape[0], shape[1] * shape[2] * shape[3]))
    if len(ranking.hit_image_H):
        precision_BH, right_BH = _precision(ranking, weights_BI)
        share_BH = right_BH / np.maximum(np.take(objects_BX, ranking.hit_objects_H, axis=1), 1.0)
        precision_BH *= _count_recalls_reached(ranking, share_BH)
        series_BS = np.add.reduceat(precision_BH, ranking.series_start_S, axis=1)
        summed[:, ranking.series_place_S] = series_BS / len(_RECALLS)
    objects_BAC = objects_BX.reshape(shape[0], ranking.classes, len(AREAS)).transpose(0, 2, 1)
    return np.where(objects_BAC[:, :, None, :] > 0, summed.reshape(shape), np.nan)


def compute_parts_by_resample(ranking: Ranking, weights_BI: NDArray[Any]) -> NDArray[Any]:
    """mAP and its parts as in `MAP_PARTS` for each row of weights, (B, P); NaN without objects."""
    parts = [_parts(average_precision(ranking, chunk)) for chunk in _chunks(ranking, weights_BI)]
    return np.concatenate(parts)


def mean_over_classes(ap_BATC: NDArray[Any]) -> NDArray[Any]:
    """Mean over the classes that have objects, (B, A, T); NaN if there are none."""
    known_BATC = ~np.isnan(ap_BATC)
    count_BAT = known_BATC.sum(axis=-1)
    sum_BAT = np.where(known_BATC, ap_BATC, 0.0).sum(axis=-1)
    return np.where(count_BAT > 0, sum_BAT / np.maximum(count_BAT, 1), np.nan)


def _parts(ap_BATC: NDArray[Any]) -> NDArray[Any]:
    mean_BAT = mean_over_classes(ap_BATC)
    columns = [mean_BAT[(slice(None), *_PART_INDEX[name])] for name in MAP_PARTS]
    return np.stack([c if c.ndim == 1 else c.mean(axis=1) for c in columns], axis=1)


def _chunks(ranking: Ranking, weights_BI: NDArray[Any]) -> Iterator[NDArray[Any]]:
    width = len(ranking.counter_image_K) + len(ranking.hit_image_H)
    step = max(1, _CHUNK_SIZE // max(1, width))
    for first in range(0, len(weights_BI), step):
        yield weights_BI[first : first + step]


def _counters(
    counts_ATD: NDArray[Any],
    image_D: NDArray[Any],
    *,
    at: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    first_H: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Counters of the number of detections so far: images, signs, and each hit's four bounds."""
    area_H, iou_H, rank_H = at
    _, ious, detections = counts_ATD.shape
    stable_AD = counts_ATD[:, -1]
    changes_ATD = counts_ATD.astype(np.int8) - stable_AD[:, None]
    stable, changes = np.flatnonzero(stable_AD), np.flatnonzero(changes_ATD)
    row_H = area_H * detections
    deep_H = (area_H * ious + iou_H) * detections
    spans_4H = np.stack(
        [
            np.searchsorted(stable, row_H + first_H),
            np.searchsorted(stable, row_H + rank_H + 1),
            np.searchsorted(changes, deep_H + first_H) + len(stable),
            np.searchsorted(changes, deep_H + rank_H + 1) + len(stable),
        ]
    )
    images_K = image_D[np.concatenate([stable % detections, changes % detections])]
    signs = changes_ATD.ravel()[changes].astype(np.int32)
    return images_K, np.concatenate([np.ones(len(stable), dtype=np.int32), signs]), spans_4H


def _precision(ranking: Ranking, weights_BI: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Interpolated precision at every hit, and the number of hits up to it."""
    weights_BI = weights_BI.astype(np.int32)
    right_BH = np.cumsum(np.take(weights_BI, ranking.hit_image_H, axis=1), axis=1, dtype=np.int32)
    before_BS = np.zeros((len(weights_BI), len(ranking.series_start_S)), dtype=np.int32)
    before_BS[:, 1:] = right_BH[:, ranking.series_start_S[1:] - 1]
    right_BH -= np.take(before_BS, ranking.hit_series_H, axis=1)
    sums_BK = np.zeros((len(weights_BI), len(ranking.counter_image_K) + 1), dtype=np.int32)
    added_BK = np.take(weights_BI, ranking.counter_image_K, axis=1) * ranking.counter_sign_K
    np.cumsum(added_BK, axis=1, out=sums_BK[:, 1:])
    begin, end, begin_changes, end_changes = ranking.spans_4H
    counted_BH = np.take(sums_BK, end, axis=1) - np.take(sums_BK, begin, axis=1)
    counted_BH += np.take(sums_BK, end_changes, axis=1)
    counted_BH -= np.take(sums_BK, begin_changes, axis=1)
    precision_BH = right_BH / (counted_BH + _EPSILON)
    return _max_precision(ranking, precision_BH), right_BH


def _max_precision(ranking: Ranking, precision_BH: NDArray[Any]) -> NDArray[Any]:
    precision_BH += ranking.offset_H
    for first, end in itertools.pairwise(ranking.column_starts):
        backwards = precision_BH[:, first:end][:, ::-1]
        np.maximum.accumulate(backwards, axis=1, out=backwards)
    precision_BH -= ranking.offset_H
    return precision_BH


def _count_recalls_reached(ranking: Ranking, share_BH: NDArray[Any]) -> NDArray[Any]:
    """Count the recall thresholds that each hit is the first to reach."""
    below_BH = (share_BH * (len(_RECALLS) - 1) + _ROUNDING).astype(np.int32)
    reached_BH = below_BH + (np.take(_RECALLS, below_BH) <= share_BH)
    passed_BH = reached_BH.copy()
    passed_BH[:, 1:] -= reached_BH[:, :-1]
    passed_BH[:, ranking.series_start_S] = reached_BH[:, ranking.series_start_S]
    return passed_BH
