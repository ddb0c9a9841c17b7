"""Imports parsed annotations into a dataset's folder: validates everything, then writes."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.spec.dataset import ClassNames, DatasetManifest
from workers.data.atomic_folder import check_output_folder, open_atomic_folder
from workers.data.formats.parsed import ParsedSplit
from workers.data.manifest import (
    SPLITS,
    CocoBox,
    CocoDocument,
    Origin,
    SplitContents,
    SplitName,
    write_manifest,
)
from workers.data.problems import ImportRefused, Problem, ProblemCode
from workers.data.validation import ValidatedImage, ValidatedSplits, validate_splits


@dataclass(frozen=True)
class DatasetImportRequest:
    """Name, classes and origin of the new dataset."""

    name: str
    classes: ClassNames
    """Class names in the order of the head's outputs."""

    origin: Origin


@dataclass(frozen=True)
class ImportOptions:
    """What an import may drop and replace."""

    drop_bad: bool = False
    """Drop unusable boxes and images, instead of refusing the import."""

    replace: bool = False


@dataclass(frozen=True)
class DroppedCounts:
    """How much of one split was dropped."""

    num_images: int
    num_boxes: int
    """Dropped boxes, with those of dropped images."""


@dataclass(frozen=True)
class DatasetImportResult:
    """The new dataset's manifest, and what was dropped, trimmed, linked and copied."""

    manifest: DatasetManifest
    problems: tuple[Problem, ...]
    dropped: Mapping[SplitName, DroppedCounts]
    num_trimmed: int
    """Boxes that exceeded their image by a pixel or less, and were trimmed."""

    num_linked: int
    copied: Mapping[str, int]
    """Number of images that could not be linked, by the reason."""


def import_dataset(
    parsed: Mapping[SplitName, ParsedSplit],
    out: Path,
    *,
    request: DatasetImportRequest,
    options: ImportOptions,
    on_image: Callable[[], None] = lambda: None,
) -> DatasetImportResult:
    """Write `train` and `val` to `out`, or raise `ImportRefused` with every problem.

    `on_image` is called after each image that was validated.
    """
    sources = [path for split in parsed.values() for path in (split.file, split.images_dir)]
    check_output_folder(out, replace=options.replace, sources=sources)
    validated = validate_splits(parsed, frozenset(request.classes), on_image=on_image)
    is_empty = any(problem.code is ProblemCode.EMPTY_SPLIT for problem in validated.problems)
    if is_empty or (validated.problems and not options.drop_bad):
        raise ImportRefused(validated.problems)
    with open_atomic_folder(out, replace=options.replace) as folder:
        reasons = Counter(
            _link_or_copy(image, folder, name)
            for name in SPLITS
            for image in validated.images[name]
        )
        manifest = _write_dataset(validated, folder, request)
    num_linked = reasons.pop("", 0)
    dropped = {name: _count_dropped(parsed[name], validated.images[name]) for name in SPLITS}
    return DatasetImportResult(
        manifest, validated.problems, dropped, validated.num_trimmed, num_linked, reasons
    )


def _link_or_copy(image: ValidatedImage, folder: Path, split: SplitName) -> str:
    """Hard-link the image, or copy it and return the reason; an empty string for a link."""
    target = folder / "images" / split / image.name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image.file.path, target)
    except OSError as error:
        shutil.copyfile(image.file.path, target)
        return error.strerror or str(error)
    return ""


def _write_dataset(
    validated: ValidatedSplits, folder: Path, request: DatasetImportRequest
) -> DatasetManifest:
    contents = {
        name: SplitContents(
            _build_document(validated.images[name], request.classes),
            tuple(image.file.sha256 for image in validated.images[name]),
        )
        for name in SPLITS
    }
    return write_manifest(
        folder,
        name=request.name,
        classes=request.classes,
        contents=contents,
        origin=request.origin,
    )


def _build_document(images: tuple[ValidatedImage, ...], classes: ClassNames) -> CocoDocument:
    """A COCO document with the parsed image ids; annotations and categories count from 1."""
    category_ids = {name: identifier for identifier, name in enumerate(classes, start=1)}
    boxes: list[CocoBox] = []
    for image in images:
        for box in image.parsed.boxes:
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": image.parsed.id,
                    "category_id": category_ids[box.label],
                    "bbox": list(box.edges),
                    "area": box.edges[2] * box.edges[3] if box.area is None else box.area,
                    "iscrowd": 1 if box.is_crowd else 0,
                }
            )
    return {
        "images": [
            {
                "id": image.parsed.id,
                "file_name": image.name,
                "width": image.file.size[0],
                "height": image.file.size[1],
            }
            for image in images
        ],
        "annotations": boxes,
        "categories": [
            {"id": identifier, "name": name} for name, identifier in category_ids.items()
        ],
    }


def _count_dropped(split: ParsedSplit, images: tuple[ValidatedImage, ...]) -> DroppedCounts:
    num_boxes = sum(len(image.parsed.boxes) for image in images)
    return DroppedCounts(split.num_listed_images - len(images), split.num_listed_boxes - num_boxes)
