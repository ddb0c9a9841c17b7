"""Counts a detector's errors by kind, after TIDE (Bolya et al., ECCV 2020)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from configs.protocol.report import ErrorKind
from workers.analysis.matches import Matches

MIN_SCORE = 0.3
"""Detections with a lower score are not counted."""

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
"""IoU from which a box is correct, and below which it is a background detection."""


@dataclass(frozen=True)
class _ImageErrors:
    """The W wrong detections and the N objects of one image."""

    box_W4: NDArray[Any]
    class_W: NDArray[Any]
    box_N4: NDArray[Any]
    class_N: NDArray[Any]
    is_found_N: NDArray[Any]


def count_errors(matches: Matches) -> dict[ErrorKind, int]:
    """Count the errors of each kind over all images.

    An object with a classification or localization error is not missed. TIDE's sixth kind, a wrong
    class and a wrong location at once, is counted as background.
    """
    counts: Counter[ErrorKind] = Counter()
    for image in _iter_images(matches):
        counts.update(_errors(image))
    return {kind: counts[kind] for kind in get_args(ErrorKind)}


def object_scores(matches: Matches) -> NDArray[Any]:
    """Score of the detection of each object at IoU 0.5, (G,); NaN for undetected objects."""
    score_G = np.full(len(matches.image_G), np.nan)
    hits = np.flatnonzero(matches.right_DAT[:, 0, 0] & (matches.score_D >= MIN_SCORE))
    score_G[matches.object_D[hits]] = matches.score_D[hits]
    return score_G


def wrong_detections(matches: Matches) -> NDArray[Any]:
    """Whether each detection is a false positive at IoU 0.5 with a score of `MIN_SCORE`, (D,)."""
    counted_D = ~matches.right_DAT[:, 0, 0] & ~matches.ignored_DAT[:, 0, 0]
    wrong_D: NDArray[Any] = counted_D & (matches.score_D >= MIN_SCORE)
    return wrong_D


def _iter_images(matches: Matches) -> Iterator[_ImageErrors]:
    is_found_G = ~np.isnan(object_scores(matches))
    images = len(matches.files)
    wrong = group_by_image(matches.image_D, wrong_detections(matches), images=images)
    objects = group_by_image(matches.image_G, ~matches.crowd_G, images=images)
    for wrong_indices, object_indices in zip(wrong, objects, strict=True):
        yield _ImageErrors(
            box_W4=matches.box_D4[wrong_indices],
            class_W=matches.class_D[wrong_indices],
            box_N4=matches.box_G4[object_indices],
            class_N=matches.class_G[object_indices],
            is_found_N=is_found_G[object_indices],
        )


def group_by_image(
    image_X: NDArray[Any], chosen_X: NDArray[Any], *, images: int
) -> list[NDArray[Any]]:
    """Indices of the selected elements, grouped by image."""
    indices = np.flatnonzero(chosen_X)
    indices = indices[np.argsort(image_X[indices], kind="stable")]
    return np.split(indices, np.searchsorted(image_X[indices], np.arange(1, images)))


def _errors(image: _ImageErrors) -> Iterator[ErrorKind]:
    iou_WN = box_ious(image.box_W4, image.box_N4)
    is_same_WN = image.class_W[:, None] == image.class_N
    is_explained_N = image.is_found_N.copy()
    for iou_N, is_same_N in zip(iou_WN, is_same_WN, strict=True):
        kind = _classify_error(iou_N, is_same_N)
        if kind in ("classification", "localization"):
            candidates_N = is_same_N if kind == "localization" else ~is_same_N
            is_explained_N[np.argmax(np.where(candidates_N, iou_N, -1.0))] = True
        yield kind
    for _ in range(int((~is_explained_N).sum())):
        yield "missed"


def _classify_error(iou_N: NDArray[Any], is_same_N: NDArray[Any]) -> ErrorKind:
    """Classify a wrong detection, in TIDE's order of priority."""
    same = float(np.max(iou_N, where=is_same_N, initial=0.0))
    other = float(np.max(iou_N, where=~is_same_N, initial=0.0))
    if BACKGROUND_IOU <= same < FOREGROUND_IOU:
        return "localization"
    if other >= FOREGROUND_IOU:
        return "classification"
    return "duplicate" if same >= FOREGROUND_IOU else "background"


def box_ious(one_W4: NDArray[Any], other_N4: NDArray[Any]) -> NDArray[Any]:
    """IoU of each box of one list with each box of another, (W, N)."""
    left_top_WN2 = np.maximum(one_W4[:, None, :2], other_N4[:, :2])
    right_bottom_WN2 = np.minimum(one_W4[:, None, 2:], other_N4[:, 2:])
    intersection_WN = np.prod(np.maximum(right_bottom_WN2 - left_top_WN2, 0.0), axis=-1)
    union_WN = _area(one_W4)[:, None] + _area(other_N4) - intersection_WN
    return intersection_WN / np.maximum(union_WN, np.finfo(np.float32).tiny)


def _area(box_X4: NDArray[Any]) -> NDArray[Any]:
    return np.prod(box_X4[:, 2:] - box_X4[:, :2], axis=-1)
