"""Compares the detections of an exported detector with those of the original."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.errors import ExportDiffers
from workers.export.tandem_runtime import ImageDetections

_SAME_BOX_PX = 1.0
"""Boxes of the same class match if no edge differs by more."""


class SingleImageDetector(Protocol):
    """A detector that takes single RGB images."""

    def detect(self, image_HW3: NDArray[Any]) -> ImageDetections:
        """Detect objects in an RGB image, uint8, (H, W, 3)."""


@dataclass(frozen=True)
class DetectionLimits:
    """Thresholds at which a detector drops boxes, where small differences decide."""

    score: float
    per_image: int
    tolerance: float

    def is_borderline(
        self, score: float, expected: ImageDetections, actual: ImageDetections
    ) -> bool:
        """Whether a box with this score may be missing in one of the two results."""
        if score <= self.score + self.tolerance:
            return True
        if min(len(expected.scores_N), len(actual.scores_N)) < self.per_image:
            return False
        weakest = min(float(expected.scores_N.min()), float(actual.scores_N.min()))
        return score <= weakest + self.tolerance


@dataclass(frozen=True)
class Agreement:
    """Differences between two detectors over some images."""

    images: int
    boxes: int
    """Number of boxes that both detect."""

    largest_edge_difference_px: float
    largest_score_difference: float
    unmatched: int
    """Boxes that only one of them detects, without those near a threshold."""

    def check_within(self, tolerance: float, *, what: str) -> None:
        """Raise `ExportDiffers` if edges (pixels) or scores differ by more than `tolerance`."""
        max_difference = max(self.largest_edge_difference_px, self.largest_score_difference)
        if max_difference <= tolerance and self.unmatched == 0:
            return
        raise ExportDiffers(
            f"{what} does not detect the same objects as the original: over {self.images} images, "
            f"edges differ by up to {self.largest_edge_difference_px:.2g} px and scores by up to "
            f"{self.largest_score_difference:.2g} (tolerance {tolerance:g}), and {self.unmatched} "
            "boxes have no match."
        )


def compare(
    original: SingleImageDetector,
    exported: SingleImageDetector,
    images: Iterable[NDArray[Any]],
    *,
    limits: DetectionLimits,
) -> Agreement:
    """Compare the detections of both on the same images."""
    pairs = [
        _compare_image(original.detect(image), exported.detect(image), limits) for image in images
    ]
    return Agreement(
        images=len(pairs),
        boxes=sum(pair.boxes for pair in pairs),
        largest_edge_difference_px=max(pair.largest_edge_difference_px for pair in pairs),
        largest_score_difference=max(pair.largest_score_difference for pair in pairs),
        unmatched=sum(pair.unmatched for pair in pairs),
    )


def _compare_image(
    expected: ImageDetections, actual: ImageDetections, limits: DetectionLimits
) -> Agreement:
    """Match every box with the nearest one of its class, in any order."""
    is_free = np.ones(len(actual.scores_N), dtype=bool)
    edges, scores, unmatched_scores = [0.0], [0.0], []
    rows = zip(expected.boxes_N4, expected.scores_N, expected.labels_N, strict=True)
    for box, score, label in rows:
        edge_N = np.abs(actual.boxes_N4 - box).max(axis=1, initial=0.0)
        score_N = np.abs(actual.scores_N - score)
        matches_N = is_free & (actual.labels_N == label) & (edge_N <= _SAME_BOX_PX)
        if not matches_N.any():
            unmatched_scores.append(float(score))
            continue
        nearest = int(np.where(matches_N, edge_N + score_N, np.inf).argmin())
        is_free[nearest] = False
        edges.append(float(edge_N[nearest]))
        scores.append(float(score_N[nearest]))
    unmatched_scores += [float(score) for score in actual.scores_N[is_free]]
    unmatched = sum(not limits.is_borderline(score, expected, actual) for score in unmatched_scores)
    return Agreement(1, len(edges) - 1, max(edges), max(scores), unmatched)
