"""Rows of text that describe a dataset's statistics, for the tables of service and workers."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from configs.catalog import preset_names, spec_from_preset
from configs.protocol.dataset_statistics import (
    ASPECT_RATIO_LIMITS,
    TINY_PX,
    DatasetStatistics,
    PartStatistics,
)
from configs.spec.base import DEFAULT_MAX_DETECTIONS
from configs.spec.references import NamedDataset

COMMON_IMAGE_SIZES = ((320, 320), (640, 640), (1333, 800))
"""Longest and shortest edge, for a dataset that no preset names."""

MAX_LISTED_CLASSES = 40
BAR_CELLS = 16


@dataclass(frozen=True)
class SummaryTable:
    """A table of plain text; the first column has labels, most others have numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...] = ()
    """Further columns that are not numbers."""


def list_image_sizes(dataset_name: str) -> list[tuple[int, int]]:
    """The image sizes of presets for this dataset, or common ones if no preset names it."""
    data = [spec_from_preset(name).data for name in preset_names()]
    sizes = {item.image_size for item in data if item.dataset == NamedDataset(name=dataset_name)}
    return sorted(sizes or COMMON_IMAGE_SIZES)


def build_summary_tables(
    statistics: DatasetStatistics, image_sizes: Iterable[tuple[int, int]]
) -> list[SummaryTable]:
    """Images, classes, sizes and aspect ratios of both parts, and sizes after resizing.

    Only the number of images if they have no labels.
    """
    if not statistics.classes:
        rows = (("train", str(statistics.train.num_images)),)
        return [SummaryTable(("part", "images"), rows)]
    return [
        _build_image_table(statistics),
        _build_class_table(statistics),
        _build_size_table(statistics),
        _build_ratio_table(statistics),
        _build_resize_table(statistics, image_sizes),
    ]


def describe_duplicates(statistics: DatasetStatistics) -> list[str]:
    """Sentences about near duplicates across the parts, or about missing labels."""
    if not statistics.classes:
        return ["There are no labels: only data.unlabelled of a run can name this dataset."]
    if not statistics.num_near_duplicates:
        return ["No validation image looks like a training image."]
    count = statistics.num_near_duplicates
    lines = [
        f"{count} of {statistics.val.num_images} validation images look like a training image:"
    ]
    lines += [
        f"  {item.val} (val) and {item.train} (train)" for item in statistics.near_duplicates[:5]
    ]
    return lines + (["  ..."] if count > 5 else [])


def _build_image_table(statistics: DatasetStatistics) -> SummaryTable:
    rows = [
        (
            name,
            str(part.num_images),
            str(part.num_empty_images),
            str(part.num_objects),
            f"{part.mean_objects:.1f}",
            str(part.max_objects),
            part.busiest_image or "-",
        )
        for name, part in _parts(statistics)
    ]
    columns = ("part", "images", "empty", "objects", "per image", "most", "busiest image")
    return SummaryTable(columns, tuple(rows), texts=("busiest image",))


def _build_class_table(statistics: DatasetStatistics) -> SummaryTable:
    """The classes with the most training objects first; of many, the first and the rarest."""
    train, val = statistics.train, statistics.val
    order = sorted(range(len(statistics.classes)), key=lambda i: (-train.class_objects[i], i))
    most = max(train.class_objects, default=0)
    rows = [
        (
            statistics.classes[index],
            str(train.class_objects[index]),
            str(train.class_images[index]),
            str(val.class_objects[index]),
            str(val.class_images[index]),
            draw_bar(train.class_objects[index], most),
        )
        for index in order
    ]
    if len(rows) > MAX_LISTED_CLASSES:
        half = MAX_LISTED_CLASSES // 2
        num_hidden = len(rows) - 2 * half
        rows = [*rows[:half], (f"{num_hidden} more", "", "", "", "", ""), *rows[-half:]]
    columns = ("class", "train", "train images", "val", "val images", "of train")
    return SummaryTable(columns, tuple(rows), texts=("of train",))


def _build_size_table(statistics: DatasetStatistics) -> SummaryTable:
    labels = ("small, below 32 x 32 px", "medium", "large, from 96 x 96 px on")
    counts = [
        (part.sizes.small, part.sizes.medium, part.sizes.large) for _, part in _parts(statistics)
    ]
    return _build_share_table("size by COCO", labels, counts)


def _build_ratio_table(statistics: DatasetStatistics) -> SummaryTable:
    limits = [f"{limit:g}" for limit in ASPECT_RATIO_LIMITS]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(limits)]
    labels = (f"below {limits[0]}", *inner, f"from {limits[-1]} on")
    counts = [part.aspect_ratios for _, part in _parts(statistics)]
    return _build_share_table("width / height", labels, counts)


def _build_resize_table(
    statistics: DatasetStatistics, image_sizes: Iterable[tuple[int, int]]
) -> SummaryTable:
    """Shares of objects that are small after resizing, of both parts together."""
    limits = (TINY_PX, 16.0, 32.0)
    rows = []
    for size in image_sizes:
        shares = [compute_share_below(statistics, limit, image_size=size) for limit in limits]
        rows.append((f"{size[0]} x {size[1]}", *map(format_share, shares)))
    columns = ("image_size", *(f"below {limit:g} px" for limit in limits))
    return SummaryTable(columns, tuple(rows))


def compute_share_below(
    statistics: DatasetStatistics, size_px: float, *, image_size: tuple[int, int]
) -> float:
    """The share of all objects that are smaller than `size_px` after resizing, from 0 to 1."""
    parts = (statistics.train, statistics.val)
    total = sum(part.num_objects for part in parts)
    below = sum(
        part.num_objects * part.share_below(size_px, image_size=image_size) for part in parts
    )
    return below / total if total else 0.0


def describe_crowding(statistics: DatasetStatistics) -> str:
    """A sentence about images with more objects than a detector reports; empty without any."""
    count = sum(part.num_crowded_images for _, part in _parts(statistics))
    if not count:
        return ""
    return (
        f"{count} images have more than {DEFAULT_MAX_DETECTIONS} objects, of which a detector "
        f"reports at most {DEFAULT_MAX_DETECTIONS} unless evaluation.max_detections is larger."
    )


def format_share(share: float) -> str:
    """Format a share from 0 to 1 as percent; a positive one is never shown as 0."""
    return "< 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def draw_bar(value: float, most: float) -> str:
    """A bar of up to 16 characters."""
    if value <= 0 or most <= 0:
        return ""
    return "█" * max(1, round(BAR_CELLS * value / most))


def _build_share_table(
    title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]
) -> SummaryTable:
    """One row for each label with the counts of train and val, and a bar of the train share."""
    total = sum(counts[0])
    rows = []
    for index, label in enumerate(labels):
        train, val = counts[0][index], counts[1][index]
        share = train / total if total else 0.0
        rows.append((label, str(train), str(val), format_share(share), draw_bar(share, 1.0)))
    columns = (title, "train", "val", "share", "of train")
    return SummaryTable(columns, tuple(rows), texts=("of train",))


def _parts(statistics: DatasetStatistics) -> tuple[tuple[str, PartStatistics], ...]:
    return (("train", statistics.train), ("val", statistics.val))
