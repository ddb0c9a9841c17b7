"""Counts the images and objects of one split from its COCO document."""

import bisect
import math
from collections import Counter, defaultdict

from configs.protocol.dataset_statistics import (
    ASPECT_RATIO_LIMITS,
    LARGE_AREA_PX,
    SMALL_AREA_PX,
    PartStatistics,
    RelativeSizes,
    SizeCounts,
    get_size_bin,
)
from configs.spec.base import DEFAULT_MAX_DETECTIONS
from workers.data.manifest import CocoBox, CocoDocument, CocoImage


def count_part(document: CocoDocument) -> PartStatistics:
    """Count the objects of a split; crowds are left out."""
    objects = [box for box in document["annotations"] if not box["iscrowd"]]
    num_by_image = Counter(box["image_id"] for box in objects)
    names = {image["id"]: image["file_name"] for image in document["images"]}
    busiest = max(num_by_image, key=lambda image: num_by_image[image], default=None)
    return PartStatistics(
        num_images=len(document["images"]),
        num_objects=len(objects),
        num_empty_images=len(document["images"]) - len(num_by_image),
        class_objects=_count_classes(document, [box["category_id"] for box in objects]),
        class_images=_count_classes(
            document,
            [
                category
                for category, _ in {(box["category_id"], box["image_id"]) for box in objects}
            ],
        ),
        sizes=_count_sizes(objects),
        aspect_ratios=_count_aspect_ratios(objects),
        max_objects=num_by_image[busiest] if busiest is not None else 0,
        busiest_image=names[busiest] if busiest is not None else "",
        num_crowded_images=sum(count > DEFAULT_MAX_DETECTIONS for count in num_by_image.values()),
        relative_sizes=_count_relative_sizes(objects, document["images"]),
    )


def _count_classes(document: CocoDocument, categories: list[int]) -> tuple[int, ...]:
    counts = Counter(categories)
    return tuple(counts[category["id"]] for category in document["categories"])


def _count_sizes(objects: list[CocoBox]) -> SizeCounts:
    areas = [box["area"] for box in objects]
    small = sum(area < SMALL_AREA_PX for area in areas)
    large = sum(area >= LARGE_AREA_PX for area in areas)
    return SizeCounts(small=small, medium=len(areas) - small - large, large=large)


def _count_aspect_ratios(objects: list[CocoBox]) -> tuple[int, ...]:
    counts = Counter(
        bisect.bisect(ASPECT_RATIO_LIMITS, box["bbox"][2] / box["bbox"][3]) for box in objects
    )
    return tuple(counts[index] for index in range(len(ASPECT_RATIO_LIMITS) + 1))


def _count_relative_sizes(
    objects: list[CocoBox], images: list[CocoImage]
) -> tuple[RelativeSizes, ...]:
    edges = {image["id"]: (image["width"], image["height"]) for image in images}
    counts: dict[float, Counter[int]] = defaultdict(Counter)
    for box in objects:
        shortest, longest = sorted(edges[box["image_id"]])
        size = math.sqrt(box["bbox"][2] * box["bbox"][3])
        ratio = max(0.01, round(shortest / longest, 2))
        counts[ratio][get_size_bin(size / longest)] += 1
    return tuple(
        RelativeSizes(image_ratio=ratio, counts=dict(sorted(bins.items())))
        for ratio, bins in sorted(counts.items())
    )
