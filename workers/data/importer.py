"""Imports parsed annotations into a dataset's folder: validates everything, then writes."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.spec.base import Sha256
from configs.spec.dataset import DatasetClasses, DatasetManifest
from workers.data.atomic_folder import check_output_folder, open_atomic_folder
from workers.data.formats.parsed import ParsedBox, ParsedSplit
from workers.data.image_hashes import write_image_hashes
from workers.data.import_report import REPORT, ImportRefused, ImportReport, count_split
from workers.data.manifest import (
    SPLITS,
    CocoBox,
    CocoDocument,
    Origin,
    SplitContents,
    SplitName,
    build_manifest,
    write_annotations,
)
from workers.data.validation import (
    ValidatedImage,
    ValidatedSplits,
    ValidationOptions,
    validate_images,
    validate_splits,
)


@dataclass(frozen=True)
class DatasetImportRequest:
    """Name, classes and origin of the new dataset."""

    name: str
    classes: DatasetClasses
    origin: Origin
    has_labels: bool = True
    """False for images alone, which all become `train`; they have no classes."""


@dataclass(frozen=True)
class ImportOptions:
    """What an import may drop and replace."""

    drop_bad: bool = False
    """Drop unusable boxes and images, instead of refusing the import."""

    replace: bool = False
    clip: bool = False
    """Clip boxes that reach out of their image, as far as a part of them lies inside."""

    follow_links: bool = False
    """Read images through links that lead out of their folder."""

    dry_run: bool = False
    """Check everything, and write nothing."""

    allow_leak: bool = False
    """Keep training images that are in val, too."""

    excluded: frozenset[Sha256] = frozenset()
    """Hashes of images that are left out."""

    @property
    def names(self) -> tuple[str, ...]:
        """The options of the command that change what is written."""
        options = {
            "--drop-bad": self.drop_bad,
            "--clip": self.clip,
            "--follow-links": self.follow_links,
            "--allow-leak": self.allow_leak,
            "--exclude-of": bool(self.excluded),
        }
        return tuple(name for name, is_set in options.items() if is_set)


@dataclass(frozen=True)
class DatasetImportResult:
    """The new dataset's manifest, what was found, and what was linked and copied."""

    manifest: DatasetManifest
    report: ImportReport
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

    `on_image` is called after each image that was validated. A dry run writes nothing.
    """
    sources = [path for split in parsed.values() for path in (split.file, split.images_dir)]
    check_output_folder(out, replace=options.replace, sources=sources)
    validated = _validate(parsed, request, options, on_image=on_image)
    report = _build_report(parsed, validated, request=request, options=options)
    if report.is_empty or (validated.problems and not options.drop_bad):
        raise ImportRefused(report)
    contents = _build_contents(validated, request.classes)
    manifest, files = build_manifest(
        name=request.name, classes=request.classes, contents=contents, origin=request.origin
    )
    if options.dry_run:
        return DatasetImportResult(manifest, report, 0, {})
    with open_atomic_folder(out, replace=options.replace) as folder:
        reasons = Counter(
            _link_or_copy(image, folder, name)
            for name in SPLITS
            for image in validated.images[name]
        )
        write_annotations(folder, manifest, files)
        write_image_hashes(folder, manifest, contents)
        report.write(folder / REPORT)
    return DatasetImportResult(manifest, report, reasons.pop("", 0), reasons)


def _validate(
    parsed: Mapping[SplitName, ParsedSplit],
    request: DatasetImportRequest,
    options: ImportOptions,
    *,
    on_image: Callable[[], None],
) -> ValidatedSplits:
    allowed = ValidationOptions(
        options.clip, options.follow_links, options.allow_leak, options.excluded
    )
    if not request.has_labels:
        return validate_images(parsed["train"], options=allowed, on_image=on_image)
    classes = frozenset(request.classes)
    return validate_splits(parsed, classes, options=allowed, on_image=on_image)


def _build_report(
    parsed: Mapping[SplitName, ParsedSplit],
    validated: ValidatedSplits,
    *,
    request: DatasetImportRequest,
    options: ImportOptions,
) -> ImportReport:
    return ImportReport(
        source=request.origin.source,
        options=options.names,
        problems=validated.problems,
        splits={name: count_split(parsed[name], validated, name) for name in SPLITS},
        num_trimmed=validated.num_trimmed,
        notes=tuple(note for name in SPLITS for note in parsed[name].notes),
        num_excluded=validated.num_excluded,
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


def _build_contents(
    validated: ValidatedSplits, classes: DatasetClasses
) -> dict[SplitName, SplitContents]:
    return {
        name: SplitContents(
            _build_document(validated.images[name], classes),
            tuple(image.file.sha256 for image in validated.images[name]),
        )
        for name in SPLITS
    }


def _build_document(images: tuple[ValidatedImage, ...], classes: DatasetClasses) -> CocoDocument:
    """A COCO document with images, annotations and categories counted from 1.

    The ids of the source may be of any size, and COCOeval loses images with ids over 2^63.
    """
    category_ids = {name: identifier for identifier, name in enumerate(classes, start=1)}
    boxes: list[CocoBox] = []
    for image_id, image in enumerate(images, start=1):
        for box in image.parsed.boxes:
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[box.label],
                    "bbox": list(box.edges),
                    "area": _compute_area(box, image.file.size),
                    "iscrowd": 1 if box.is_crowd else 0,
                }
            )
    return {
        "images": [
            {
                "id": image_id,
                "file_name": image.name,
                "width": image.file.size[0],
                "height": image.file.size[1],
            }
            for image_id, image in enumerate(images, start=1)
        ],
        "annotations": boxes,
        "categories": [
            {"id": identifier, "name": name} for name, identifier in category_ids.items()
        ],
    }


def _compute_area(box: ParsedBox, size: tuple[int, int]) -> float:
    """The annotated area; the box's if that is impossible, as COCOeval ignores areas over 1e10."""
    if box.area is None or box.area > size[0] * size[1]:
        return box.edges[2] * box.edges[3]
    return box.area
