"""Findings about the data of a training run: what its result could not show."""

import math
from collections.abc import Iterator, Sequence

from configs.dataset_summary import compute_share_below, format_share
from configs.protocol.dataset_statistics import (
    TINY_PX,
    DatasetStatistics,
)
from configs.spec.base import LARGEST_MAX_DETECTIONS
from configs.spec.run import RunSpec
from service.domain.planning.findings import Finding, abbreviate, warning

MIN_VAL_OBJECTS = 10
"""With fewer objects of a class, one detection more or less changes its AP by several points."""

MIN_VAL_IMAGES = 50
"""Intervals resample the validation images; with fewer they are mostly too wide to decide."""

MAX_TINY_SHARE = 0.25
"""From this share of tiny objects on, resizing decides the result more than the student does."""

_DETECTIONS_PER_OBJECT = 2


def dataset_findings(spec: RunSpec, statistics: DatasetStatistics) -> Iterator[Finding]:
    """Warnings about classes, sizes, numbers and copies of images."""
    yield from _class_findings(statistics)
    yield from _image_count_findings(spec, statistics)
    yield from _crowding_findings(spec, statistics)
    yield from _size_findings(spec, statistics)
    yield from _duplicate_findings(statistics)


def _class_findings(statistics: DatasetStatistics) -> Iterator[Finding]:
    counts = list(zip(statistics.classes, statistics.val.class_objects, strict=True))
    if missing := [name for name, count in counts if count == 0]:
        yield warning(
            "data.dataset",
            "class_not_validated",
            f"{_count_classes(missing, statistics)} no object in the validation images, so no AP: "
            f"{abbreviate(missing)}. mAP is the mean over the others. Split the images again, or "
            "import without these classes.",
        )
    if rare := [f"{name} ({count})" for name, count in counts if 0 < count < MIN_VAL_OBJECTS]:
        yield warning(
            "data.dataset",
            "class_rarely_validated",
            f"{_count_classes(rare, statistics)} fewer than {MIN_VAL_OBJECTS} objects in the "
            f"validation images: {abbreviate(rare)}. Their AP is mostly chance, and mAP counts "
            "it as much as that of the others. Annotate more, or read the AP of each class in the "
            "report.",
        )


def _count_classes(names: Sequence[str], statistics: DatasetStatistics) -> str:
    verb = "has" if len(names) == 1 else "have"
    return f"{len(names)} of {len(statistics.classes)} classes {verb}"


def _image_count_findings(spec: RunSpec, statistics: DatasetStatistics) -> Iterator[Finding]:
    limit, available = spec.evaluation.val_images, statistics.val.num_images
    count = available if limit is None else min(limit, available)
    if count >= MIN_VAL_IMAGES:
        return
    is_limited = limit is not None and available > count
    advice = (
        f"There are {available}: raise evaluation.val_images."
        if is_limited
        else "Import with a larger share for validation, or annotate more images."
    )
    yield warning(
        "evaluation.val_images" if is_limited else "data.dataset",
        "few_validation_images",
        f"The run is evaluated on {count} images. Below {MIN_VAL_IMAGES}, the interval of a gain "
        f"is mostly too wide for a verdict. {advice}",
    )


def _crowding_findings(spec: RunSpec, statistics: DatasetStatistics) -> Iterator[Finding]:
    limit = spec.evaluation.max_detections
    busiest = max((statistics.train, statistics.val), key=lambda part: part.max_objects)
    if busiest.max_objects <= limit:
        return
    yield warning(
        "evaluation.max_detections",
        "crowded_images",
        f"Images have up to {busiest.max_objects} objects ({busiest.busiest_image}). A detector "
        f"reports, and mAP counts, at most {limit} detections of an image, so the rest are misses. "
        f"{_advise_against_crowding(limit, busiest.max_objects)}",
    )


def _advise_against_crowding(limit: int, max_objects: int) -> str:
    """Room for as many false detections as there are objects, in hundreds."""
    enough = min(
        100 * math.ceil(_DETECTIONS_PER_OBJECT * max_objects / 100), LARGEST_MAX_DETECTIONS
    )
    if limit == LARGEST_MAX_DETECTIONS:
        return f"{limit} is the most that there is: cut these images into tiles."
    if max_objects > LARGEST_MAX_DETECTIONS:
        return (
            f"Cut these images into tiles, or lose fewer with evaluation.max_detections={enough}."
        )
    return f"Set evaluation.max_detections={enough}, or cut these images into tiles."


def _size_findings(spec: RunSpec, statistics: DatasetStatistics) -> Iterator[Finding]:
    size = spec.data.image_size
    share = compute_share_below(statistics, TINY_PX, image_size=size)
    if share < MAX_TINY_SHARE:
        return
    yield warning(
        "data.image_size",
        "tiny_objects",
        f"{format_share(share)} of the objects are smaller than {TINY_PX:g} px at "
        f"{size[0]} x {size[1]}, less than one cell of the finest pyramid level. Raise "
        "data.image_size, or cut the images into tiles.",
    )


def _duplicate_findings(statistics: DatasetStatistics) -> Iterator[Finding]:
    count = statistics.num_near_duplicates
    if not count:
        return
    pair = statistics.near_duplicates[0]
    verb = "looks" if count == 1 else "look"
    yield warning(
        "data.dataset",
        "near_duplicates",
        f"{count} of {statistics.val.num_images} validation images {verb} like a training image "
        f"({pair.val} like {pair.train}), which raises the mAP of every run. Remove them, or keep "
        "images of one scene in one part. `tandem data show` lists them.",
    )
