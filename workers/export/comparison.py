"""Whether two detectors find the same, and by how much they differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from workers.errors import ExportDiffers
from workers.export.tandem_runtime import Array, ImageDetections

_SAME_BOX_PX = 1.0
"""Boxes of one class whose edges are no farther apart are taken for the same object."""


class ImageDetector(Protocol):
    """Anything that finds objects in an RGB image."""

    def detect(self, image_HW3: Array) -> ImageDetections:
        """What is in the image."""


@dataclass(frozen=True)
class DetectionLimits:
    """Where a detector leaves boxes out; one more or less is chance there."""

    score: float
    per_image: int
    tolerance: float

    def is_borderline(self, score: float, ours: ImageDetections, theirs: ImageDetections) -> bool:
        """Whether a box of this score may be missing on one side."""
        if score <= self.score + self.tolerance:
            return True
        if min(len(ours.scores_N), len(theirs.scores_N)) < self.per_image:
            return False
        weakest = min(float(ours.scores_N.min()), float(theirs.scores_N.min()))
        return score <= weakest + self.tolerance


@dataclass(frozen=True)
class Agreement:
    """How two detectors differ over some images."""

    images: int
    boxes: int
    """Found by both."""

    largest_edge_difference_px: float
    largest_score_difference: float
    unmatched: int
    """Boxes that only one of them has, but for those at the edge of being left out."""

    def check_within(self, tolerance: float, *, what: str) -> None:
        """`ExportDiffers` if edges (pixels) or scores differ by more."""
        largest = max(self.largest_edge_difference_px, self.largest_score_difference)
        if largest <= tolerance and self.unmatched == 0:
            return
        raise ExportDiffers(
            f"{what} does not find what the original finds: over {self.images} images an edge "
            f"differs by {self.largest_edge_difference_px:.2g} px, a score by "
            f"{self.largest_score_difference:.2g} ({tolerance:g} is let through), and "
            f"{self.unmatched} boxes have no counterpart."
        )


def compare(
    original: ImageDetector,
    exported: ImageDetector,
    images: Iterable[Array],
    *,
    limits: DetectionLimits,
) -> Agreement:
    """Shows the same images to both."""
    pairs = [_of_image(original.detect(image), exported.detect(image), limits) for image in images]
    return Agreement(
        images=len(pairs),
        boxes=sum(pair.boxes for pair in pairs),
        largest_edge_difference_px=max(pair.largest_edge_difference_px for pair in pairs),
        largest_score_difference=max(pair.largest_score_difference for pair in pairs),
        unmatched=sum(pair.unmatched for pair in pairs),
    )


def _of_image(ours: ImageDetections, theirs: ImageDetections, limits: DetectionLimits) -> Agreement:
    """Every box with the nearest one of its class; the order of equal scores does not count."""
    free = np.ones(len(theirs.scores_N), dtype=bool)
    edges, scores, alone = [0.0], [0.0], []
    for box, score, label in zip(ours.boxes_N4, ours.scores_N, ours.labels_N, strict=True):
        edge_N = np.abs(theirs.boxes_N4 - box).max(axis=1, initial=0.0)
        score_N = np.abs(theirs.scores_N - score)
        fits_N = free & (theirs.labels_N == label) & (edge_N <= _SAME_BOX_PX)
        if not fits_N.any():
            alone.append(float(score))
            continue
        nearest = int(np.where(fits_N, edge_N + score_N, np.inf).argmin())
        free[nearest] = False
        edges.append(float(edge_N[nearest]))
        scores.append(float(score_N[nearest]))
    alone += [float(score) for score in theirs.scores_N[free]]
    unmatched = sum(not limits.is_borderline(score, ours, theirs) for score in alone)
    return Agreement(1, len(edges) - 1, max(edges), max(scores), unmatched)
