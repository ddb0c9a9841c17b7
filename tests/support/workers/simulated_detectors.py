"""Detectors of known quality, which simulate detections from a few numbers without images.

An object is detected if its ease is above 0; more ease gives a better box and a higher score. Ease
is the detector's skill plus the ease of the image and the object (shared by all detectors), of the
method in the image, and of the single model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.analysis.matches import AREAS, IOUS, Matches

Seed = int | Sequence[int]


@dataclass(frozen=True)
class SimulatedImages:
    """A sample of images with the properties that detectors depend on."""

    images: int
    image_G: NDArray[Any]
    class_G: NDArray[Any]
    size_G: NDArray[Any]
    """Column of `AREAS`; 0 for an object without a size, which saves time."""

    ease_G: NDArray[Any]


@dataclass(frozen=True)
class SimulatedDetector:
    """Parameters of a trained detector."""

    skill: float
    method_ease: float = 0.0
    """Standard deviation of its method's ease over images; shared by all seeds."""

    own_ease: float = 0.5
    """Standard deviation of its own ease over objects."""

    false_per_image: float = 2.0


def simulate_images(
    images: int,
    *,
    seed: Seed,
    objects_per_image: float = 2.0,
    classes: int = 2,
    has_sizes: bool = False,
) -> SimulatedImages:
    random = np.random.default_rng(seed)
    count = int(random.poisson(objects_per_image, images).sum())
    image_G = np.sort(random.integers(images, size=count)).astype(np.int32)
    ease_I = random.normal(0, 0.5, images)
    return SimulatedImages(
        images=images,
        image_G=image_G,
        class_G=random.integers(classes, size=count).astype(np.int32),
        size_G=random.integers(1, 4, size=count) if has_sizes else np.zeros(count, dtype=np.int64),
        ease_G=ease_I[image_G] + random.normal(0, 0.7, count),
    )


def simulate_detections(
    detector: SimulatedDetector,
    images: SimulatedImages,
    *,
    seed: Seed,
    method_seed: Seed = 0,
) -> Matches:
    """Simulate the detections of one model; `method_seed` is shared by all models of its method."""
    random = np.random.default_rng(seed)
    count, classes = len(images.image_G), int(images.class_G.max()) + 1
    ease_I = np.random.default_rng(method_seed).normal(0, detector.method_ease, images.images)
    ease_G = detector.skill + images.ease_G + ease_I[images.image_G]
    ease_G = ease_G + random.normal(0, detector.own_ease, count)
    detected_G = np.flatnonzero(ease_G > 0)
    false_positives = int(random.poisson(detector.false_per_image * images.images))
    image_D = np.concatenate(
        [
            images.image_G[detected_G],
            random.integers(images.images, size=false_positives),
        ]
    )
    class_D = np.concatenate(
        [images.class_G[detected_G], random.integers(classes, size=false_positives)]
    )
    size_D = np.concatenate(
        [
            images.size_G[detected_G],
            random.choice(images.size_G, size=false_positives),
        ]
    )
    iou_G = 0.5 + 0.5 * np.tanh(ease_G[detected_G] / 2)
    iou_D = np.concatenate([iou_G, np.zeros(false_positives)])
    score_D = np.concatenate(
        [
            ease_G[detected_G] + random.normal(0, 0.7, len(detected_G)),
            random.normal(0, 0.9, false_positives),
        ]
    )
    right_DAT, ignored_DAT = _judge_by_area(iou_D, size_D)
    order_D = np.lexsort((-score_D, class_D))
    return Matches(
        class_names=tuple(f"class {number}" for number in range(classes)),
        files=tuple(f"{number}.png" for number in range(images.images)),
        image_D=image_D[order_D].astype(np.int32),
        class_D=class_D[order_D].astype(np.int32),
        score_D=(1 / (1 + np.exp(-score_D[order_D]))).astype(np.float32),
        box_D4=np.zeros((len(order_D), 4), dtype=np.float32),
        right_DAT=right_DAT[order_D],
        ignored_DAT=ignored_DAT[order_D],
        object_D=np.concatenate([detected_G, np.full(false_positives, -1)])[order_D].astype(
            np.int32
        ),
        image_G=images.image_G,
        class_G=images.class_G,
        box_G4=np.zeros((count, 4), dtype=np.float32),
        area_G=np.ones(count),
        crowd_G=np.zeros(count, dtype=bool),
        objects_ICA=_count_objects(images, classes),
    )


def _judge_by_area(iou_D: NDArray[Any], size_D: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Compute which detections are right and which are ignored, by area and IoU threshold."""
    in_area_DA = (np.arange(len(AREAS)) == 0) | (np.arange(len(AREAS)) == size_D[:, None])
    right_DAT = (iou_D[:, None] >= np.array(IOUS))[:, None, :] & in_area_DA[:, :, None]
    return right_DAT, np.repeat(~in_area_DA[:, :, None], len(IOUS), axis=2)


def shift_skill(detector: SimulatedDetector, shift: float) -> SimulatedDetector:
    """Copy the detector with another skill."""
    return replace(detector, skill=detector.skill + shift)


def _count_objects(simulated_images: SimulatedImages, classes: int) -> NDArray[Any]:
    objects_ICA = np.zeros((simulated_images.images, classes, len(AREAS)), dtype=np.int32)
    for column in range(len(AREAS)):
        in_area = (simulated_images.size_G == column) | (column == 0)
        np.add.at(
            objects_ICA[:, :, column],
            (simulated_images.image_G[in_area], simulated_images.class_G[in_area]),
            1,
        )
    return objects_ICA
