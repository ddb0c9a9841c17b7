"""What kinds of errors a detector makes (after Bolya et al., TIDE, ECCV 2020)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from configs.protocol.report import ErrorKind
from workers.analysis.matches import Array, Matches

MIN_SCORE = 0.3
"""Detections below it are not looked at."""

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
"""From the one on a place is right, below the other nothing is there."""


@dataclass(frozen=True)
class _Scene:
    """One image's W detections that are wrong, N objects, and which of these are found."""

    box_W4: Array
    class_W: Array
    box_N4: Array
    class_N: Array
    is_found_N: Array


def count_errors(matches: Matches) -> dict[ErrorKind, int]:
    """How many errors of each kind, over all images.

    An object that a wrong class or a wrong place was meant for is not missed. TIDE's sixth kind,
    wrong class and wrong place at once, counts as background: such a detection is of nothing.
    """
    counts: Counter[ErrorKind] = Counter()
    for scene in _scenes(matches):
        counts.update(_errors(scene))
    return {kind: counts[kind] for kind in get_args(ErrorKind)}


def object_scores(matches: Matches) -> Array:
    """The score with which each object is found at IoU 0.5 and in its class, (G,); NaN if not."""
    score_G = np.full(len(matches.image_G), np.nan)
    hits = np.flatnonzero(matches.right_DAT[:, 0, 0] & (matches.score_D >= MIN_SCORE))
    score_G[matches.object_D[hits]] = matches.score_D[hits]
    return score_G


def _scenes(matches: Matches) -> Iterator[_Scene]:
    counted_D = ~matches.right_DAT[:, 0, 0] & ~matches.ignored_DAT[:, 0, 0]
    wrong_D = counted_D & (matches.score_D >= MIN_SCORE)
    is_found_G = ~np.isnan(object_scores(matches))
    images = len(matches.files)
    wrong = _by_image(matches.image_D, wrong_D, images=images)
    objects = _by_image(matches.image_G, ~matches.crowd_G, images=images)
    for of_wrong, of_objects in zip(wrong, objects, strict=True):
        yield _Scene(
            box_W4=matches.box_D4[of_wrong],
            class_W=matches.class_D[of_wrong],
            box_N4=matches.box_G4[of_objects],
            class_N=matches.class_G[of_objects],
            is_found_N=is_found_G[of_objects],
        )


def _by_image(image_X: Array, chosen_X: Array, *, images: int) -> list[Array]:
    """The places of the chosen ones, image by image."""
    places = np.flatnonzero(chosen_X)
    places = places[np.argsort(image_X[places], kind="stable")]
    return np.split(places, np.searchsorted(image_X[places], np.arange(1, images)))


def _errors(scene: _Scene) -> Iterator[ErrorKind]:
    iou_WN = _iou(scene.box_W4, scene.box_N4)
    is_same_WN = scene.class_W[:, None] == scene.class_N
    is_meant_N = scene.is_found_N.copy()
    for iou_N, is_same_N in zip(iou_WN, is_same_WN, strict=True):
        kind = _kind(iou_N, is_same_N)
        if kind in ("classification", "localization"):
            meant_N = is_same_N if kind == "localization" else ~is_same_N
            is_meant_N[np.argmax(np.where(meant_N, iou_N, -1.0))] = True
        yield kind
    for _ in range(int((~is_meant_N).sum())):
        yield "missed"


def _kind(iou_N: Array, is_same_N: Array) -> ErrorKind:
    """Of a wrong detection, in TIDE's order where several would fit."""
    same = float(np.max(iou_N, where=is_same_N, initial=0.0))
    other = float(np.max(iou_N, where=~is_same_N, initial=0.0))
    if BACKGROUND_IOU <= same < FOREGROUND_IOU:
        return "localization"
    if other >= FOREGROUND_IOU:
        return "classification"
    return "duplicate" if same >= FOREGROUND_IOU else "background"


def _iou(one_W4: Array, other_N4: Array) -> Array:
    corner_WN2 = np.maximum(one_W4[:, None, :2], other_N4[:, :2])
    far_WN2 = np.minimum(one_W4[:, None, 2:], other_N4[:, 2:])
    shared_WN = np.prod(np.maximum(far_WN2 - corner_WN2, 0.0), axis=-1)
    whole_WN = _area(one_W4)[:, None] + _area(other_N4) - shared_WN
    return shared_WN / np.maximum(whole_WN, np.finfo(np.float32).tiny)


def _area(box_X4: Array) -> Array:
    return np.prod(box_X4[:, 2:] - box_X4[:, :2], axis=-1)
