"""From drafts to a dataset's folder: check everything, then write all or nothing."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.spec.dataset import ClassNames, DatasetManifest
from workers.data.atomic_folder import check_output_folder, open_atomic_folder
from workers.data.manifest import (
    SPLITS,
    CocoBox,
    CocoDocument,
    Origin,
    SplitContents,
    SplitName,
    write_manifest,
)
from workers.data.parsed import ParsedSplit
from workers.data.problems import ImportRefused, Problem, ProblemCode
from workers.data.validation import ValidatedImage, ValidatedSplits, validate_splits


@dataclass(frozen=True)
class DatasetImportRequest:
    """What the new dataset is to be called, and where it comes from."""

    name: str
    classes: ClassNames
    """In the order of the head's outputs."""

    origin: Origin


@dataclass(frozen=True)
class ImportOptions:
    """What may be done to get there."""

    drop_bad: bool = False
    """Leave out bad boxes and images that cannot be used, instead of refusing everything."""

    replace: bool = False


@dataclass(frozen=True)
class DroppedCounts:
    """What of one part was left out."""

    num_images: int
    num_boxes: int
    """Of images that were left out as well."""


@dataclass(frozen=True)
class DatasetImportResult:
    """What came of an import."""

    manifest: DatasetManifest
    problems: tuple[Problem, ...]
    dropped: Mapping[SplitName, DroppedCounts]
    num_trimmed: int
    """Boxes that reached a pixel or less out of their image."""

    num_linked: int
    copied: Mapping[str, int]
    """Images that had to be copied, by the reason."""


def import_dataset(
    drafts: Mapping[SplitName, ParsedSplit],
    out: Path,
    *,
    request: DatasetImportRequest,
    options: ImportOptions,
    on_image: Callable[[], None] = lambda: None,
) -> DatasetImportResult:
    """Write `train` and `val` to `out`, or nothing and raise `ImportRefused` with every problem."""
    sources = [place for draft in drafts.values() for place in (draft.file, draft.images_dir)]
    check_output_folder(out, replace=options.replace, sources=sources)
    checked = validate_splits(drafts, frozenset(request.classes), on_image=on_image)
    is_empty = any(problem.code is ProblemCode.EMPTY_SPLIT for problem in checked.problems)
    if is_empty or (checked.problems and not options.drop_bad):
        raise ImportRefused(checked.problems)
    with open_atomic_folder(out, replace=options.replace) as folder:
        reasons = Counter(
            _place(image, folder, part) for part in SPLITS for image in checked.images[part]
        )
        manifest = _write(checked, folder, request)
    num_linked = reasons.pop("", 0)
    dropped = {part: _dropped(drafts[part], checked.images[part]) for part in SPLITS}
    return DatasetImportResult(
        manifest, checked.problems, dropped, checked.num_trimmed, num_linked, reasons
    )


def _place(image: ValidatedImage, folder: Path, part: SplitName) -> str:
    """Link the image, which costs no space, or else copy it and return why."""
    target = folder / "images" / part / image.name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image.file.path, target)
    except OSError as error:
        shutil.copyfile(image.file.path, target)
        return error.strerror or str(error)
    return ""


def _write(checked: ValidatedSplits, folder: Path, wanted: DatasetImportRequest) -> DatasetManifest:
    parts = {
        part: SplitContents(
            _document(checked.images[part], wanted.classes),
            tuple(image.file.sha256 for image in checked.images[part]),
        )
        for part in SPLITS
    }
    return write_manifest(
        folder, name=wanted.name, classes=wanted.classes, contents=parts, origin=wanted.origin
    )


def _document(images: tuple[ValidatedImage, ...], classes: ClassNames) -> CocoDocument:
    """Image ids stay; annotations are counted from 1, and so are categories, as classes go."""
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
                "width": image.parsed.size[0],
                "height": image.parsed.size[1],
            }
            for image in images
        ],
        "annotations": boxes,
        "categories": [
            {"id": identifier, "name": name} for name, identifier in category_ids.items()
        ],
    }


def _dropped(draft: ParsedSplit, images: tuple[ValidatedImage, ...]) -> DroppedCounts:
    num_boxes = sum(len(image.parsed.boxes) for image in images)
    return DroppedCounts(draft.num_listed_images - len(images), draft.num_listed_boxes - num_boxes)
