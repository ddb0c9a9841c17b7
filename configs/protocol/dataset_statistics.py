"""Statistics of a dataset: workers compute them once from the images, the service only reads them.

The file is in the dataset's folder and names the digest of the dataset that it describes. It is no
part of that digest.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from configs.spec.base import Contract, Sha256
from configs.spec.dataset import DatasetClasses

STATISTICS = "statistics.json"
"""The file's name in the dataset's folder."""

CONTACT_SHEET = "contact-sheet.jpg"
"""Sample images with their boxes, in the dataset's folder."""

SMALL_AREA_PX, LARGE_AREA_PX = 32**2, 96**2
"""COCO's limits: an object below the first is small, from the second on it is large."""

TINY_PX = 8.0
"""Below this size an object is smaller than one cell of the finest pyramid level (stride 8)."""

ASPECT_RATIO_LIMITS: Final = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
"""Limits between the classes of aspect ratios, width / height."""

BINS_PER_OCTAVE = 8

Count = Annotated[int, Field(ge=0)]


class SizeCounts(Contract):
    """Objects by area in pixels of the original image, with COCO's limits."""

    small: Count
    medium: Count
    large: Count


class RelativeSizes(Contract):
    """Sizes of the objects in images of one shape, as shares of the longest edge of the image.

    The size of an object is the square root of its box's area.
    """

    image_ratio: Annotated[float, Field(gt=0, le=1)]
    """Shortest edge / longest edge of the images, rounded to 0.01."""

    counts: Mapping[int, Count]
    """Number of objects whose size s has floor(8 log2(s / longest edge)) as key."""


class PartStatistics(Contract):
    """The images and objects of one split. Crowds are not counted, as COCO does not match them."""

    num_images: Count
    num_objects: Count
    num_empty_images: Count
    """Images without objects."""

    class_objects: tuple[Count, ...]
    """Number of objects of each class, in the dataset's order."""

    class_images: tuple[Count, ...]
    """Number of images with at least one object of the class."""

    sizes: SizeCounts
    aspect_ratios: tuple[Count, ...]
    """Number of objects in each class of `ASPECT_RATIO_LIMITS`, from tall to wide."""

    max_objects: Count
    """Number of objects in the busiest image."""

    busiest_image: str
    num_crowded_images: Count
    """Images with more objects than a detector reports by default, `DEFAULT_MAX_DETECTIONS`."""

    relative_sizes: tuple[RelativeSizes, ...]

    @property
    def mean_objects(self) -> float:
        """Objects per image."""
        return self.num_objects / self.num_images if self.num_images else 0.0

    def share_below(self, size_px: float, *, image_size: tuple[int, int]) -> float:
        """The share of objects that are smaller than `size_px` after resizing, from 0 to 1.

        `image_size` are the longest and shortest edge after resizing. The distribution within a
        bin, a twelfth of its size, is taken as even.
        """
        num_below = sum(
            _count_below(sizes, size_px / _longest_edge(sizes.image_ratio, image_size))
            for sizes in self.relative_sizes
        )
        return num_below / self.num_objects if self.num_objects else 0.0


class NearDuplicate(Contract):
    """An image of `val` that looks like one of `train`."""

    val: str
    train: str
    """The most similar one."""

    distance: Annotated[int, Field(ge=0, le=256)]
    """Bits in which their perceptual hashes of 256 bits differ."""


class DatasetStatistics(Contract):
    """The content of `statistics.json`."""

    dataset_digest: Sha256
    classes: DatasetClasses
    train: PartStatistics
    val: PartStatistics
    num_near_duplicates: Count
    """Validation images that look like a training image."""

    near_duplicates: tuple[NearDuplicate, ...]
    """The most similar ones, at most `MAX_LISTED_DUPLICATES`."""


MAX_LISTED_DUPLICATES = 20


def get_size_bin(relative_size: float) -> int:
    """The key of `RelativeSizes.counts` for a size as share of the image's longest edge."""
    return math.floor(BINS_PER_OCTAVE * math.log2(relative_size))


def _longest_edge(image_ratio: float, image_size: tuple[int, int]) -> float:
    """The longest edge of an image after resizing with its aspect ratio kept, in pixels."""
    return min(max(image_size), min(image_size) / image_ratio)


def _count_below(sizes: RelativeSizes, relative_size: float) -> float:
    limit = BINS_PER_OCTAVE * math.log2(relative_size)
    return sum(
        count * min(1.0, max(0.0, limit - position)) for position, count in sizes.counts.items()
    )
