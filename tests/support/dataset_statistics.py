"""Statistics of made-up datasets."""

from typing import Any

from configs.protocol.dataset_statistics import (
    ASPECT_RATIO_LIMITS,
    DatasetStatistics,
    PartStatistics,
    RelativeSizes,
    SizeCounts,
)
from tests.support.factories import CLASSES, NO_HASH


def make_part(**changes: Any) -> PartStatistics:
    """200 square images with 400 objects of two classes, each a quarter as long as its image."""
    fields: dict[str, Any] = {
        "num_images": 200,
        "num_objects": 400,
        "num_empty_images": 10,
        "class_objects": (300, 100),
        "class_images": (150, 80),
        "sizes": SizeCounts(small=40, medium=200, large=160),
        "aspect_ratios": (0, 0, 0, 400, *[0] * (len(ASPECT_RATIO_LIMITS) - 3)),
        "max_objects": 12,
        "busiest_image": "a.jpg",
        "num_crowded_images": 0,
        "relative_sizes": (RelativeSizes(image_ratio=1.0, counts={-16: 400}),),
    }
    return PartStatistics(**fields | changes)


def make_statistics(**changes: Any) -> DatasetStatistics:
    """Statistics of the dataset of `make_manifest`."""
    fields: dict[str, Any] = {
        "dataset_digest": NO_HASH,
        "classes": CLASSES,
        "train": make_part(),
        "val": make_part(),
        "num_near_duplicates": 0,
        "near_duplicates": (),
    }
    return DatasetStatistics(**fields | changes)
