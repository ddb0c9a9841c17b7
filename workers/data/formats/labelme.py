"""Parses LabelMe: a JSON file for each image, with outlines of objects in pixels.

Rectangles, polygons, circles and masks become boxes. Shapes of one label and one group id are parts
of one object. Pictures inside of the JSON files are ignored.
"""

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from workers.data.formats.file_names import FileIndex
from workers.data.formats.parsed import (
    ParsedBox,
    ParsedImage,
    ParsedSplit,
    clean_label,
    describe_missing_sizes,
)
from workers.data.formats.split_names import UNSPLIT, list_files, list_split_folders
from workers.data.problems import Problem, ProblemCode, display_path

_WITH_AREA = ("polygon", "rectangle", "mask", "circle", "oriented_rectangle", "rotation")
_ANNOTATION_FOLDERS = ("annotations", "labels", "json", "labelme")
_NUM_PROBED = 5

Edges = tuple[float, float, float, float]
Fault = tuple[str, ProblemCode, str]
"""Location, code and message of a problem in a file."""


@dataclass(frozen=True)
class LabelMeFiles:
    """Where a split is: JSON files in a folder, and images in the same or another one of a root."""

    annotations: Path
    root: Path


@dataclass
class _LabelMeReader:
    files: LabelMeFiles
    index: FileIndex
    problems: list[Problem] = field(default_factory=list)
    num_boxes: int = 0


def find_labelme_splits(root: Path) -> dict[str, LabelMeFiles]:
    """LabelMe's splits in `root`: folders of splits, or all files in it."""
    for parent in (root, *(root / name for name in _ANNOTATION_FOLDERS)):
        splits = {
            split: LabelMeFiles(folder, root if parent != root else folder)
            for split, folder in list_split_folders(parent).items()
            if _has_shapes(folder)
        }
        if splits:
            return splits
    folders = [root, *(root / name for name in _ANNOTATION_FOLDERS)]
    return next(
        ({UNSPLIT: LabelMeFiles(folder, root)} for folder in folders if _has_shapes(folder)), {}
    )


def read_labelme(files: LabelMeFiles) -> ParsedSplit:
    """Parse all JSON files with shapes in the split's folder and below."""
    reader = _LabelMeReader(files, FileIndex(files.root))
    names = [name for name in FileIndex(files.annotations).paths if name.lower().endswith(".json")]
    images: list[ParsedImage] = []
    for number, name in enumerate(names, start=1):
        image = _read_image(reader, files.annotations / name, number)
        if image is not None:
            images.append(image)
    without_size = sum(image.size is None for image in images)
    return ParsedSplit(
        file=files.annotations,
        images_dir=files.root,
        images=tuple(images),
        problems=tuple(reader.problems),
        num_listed_images=len(names),
        num_listed_boxes=reader.num_boxes,
        notes=describe_missing_sizes(without_size, files.annotations),
    )


def _has_shapes(folder: Path) -> bool:
    """Whether one of the first JSON files is LabelMe's."""
    for path in list_files(folder, ".json")[:_NUM_PROBED]:
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(document, dict) and isinstance(document.get("shapes"), list):
            return True
    return False


def _read_image(reader: _LabelMeReader, path: Path, number: int) -> ParsedImage | None:
    faults: list[Fault] = []
    document = _load(path, faults)
    name = _find_image(reader, path, document.get("imagePath"))
    boxes = tuple(_read_boxes(reader, document, faults))
    reader.problems += [
        Problem(display_path(path), location, code, message, name)
        for location, code, message in faults
    ]
    if not document:
        return None
    width, height = (_read_length(document.get(key)) for key in ("imageWidth", "imageHeight"))
    return ParsedImage(
        file=path,
        location="whole file",
        name=name,
        size=None if width is None or height is None else (width, height),
        size_location="whole file",
        boxes=boxes,
        id=number,
    )


def _load(path: Path, faults: list[Fault]) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        faults.append(("whole file", ProblemCode.MALFORMED_FILE, f"not JSON: {error}"))
        return {}
    if isinstance(document, dict) and isinstance(document.get("shapes"), list):
        return document
    faults.append(("whole file", ProblemCode.MALFORMED_FILE, "it has no list of shapes"))
    return {}


def _find_image(reader: _LabelMeReader, path: Path, listed: object) -> str:
    """The image that `imagePath` names relative to the file, or the one with the file's stem."""
    folder = path.parent.resolve().relative_to(reader.files.root.resolve())
    names: list[str] = []
    if isinstance(listed, str) and listed:
        plain = listed.replace("\\", "/")
        names.append(os.path.normpath(f"{folder.as_posix()}/{plain}"))
        names.append((folder / PurePosixPath(plain).name).as_posix())
    for name in names:
        if reader.index.has(name):
            return PurePosixPath(name).as_posix()
    stems = reader.index.find_stem((folder / path.stem).as_posix())
    if stems:
        return stems[0]
    similar = (reader.index.find(name) for name in names)
    return next(filter(None, similar), (folder / f"{path.stem}.jpg").as_posix())


def _read_length(value: object) -> int | None:
    is_number = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return round(value) if isinstance(value, int | float) and is_number else None


def _read_boxes(
    reader: _LabelMeReader, document: dict[str, Any], faults: list[Fault]
) -> Iterator[ParsedBox]:
    """Boxes of single shapes, and of groups of shapes at the place of their first."""
    boxes: dict[object, ParsedBox] = {}
    for position, shape in enumerate(document.get("shapes", ())):
        location = f"shapes[{position}]"
        box = _read_box(shape, location, faults)
        group = shape.get("group_id") if isinstance(shape, dict) else None
        key = position if box is None or group is None else (box.label, str(group))
        reader.num_boxes += key not in boxes
        if box is not None:
            boxes[key] = _join(boxes[key], box) if key in boxes else box
    yield from boxes.values()


def _read_box(shape: Any, location: str, faults: list[Fault]) -> ParsedBox | None:
    if not isinstance(shape, dict):
        faults.append((location, ProblemCode.BAD_VALUE, "it is no shape"))
        return None
    label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(label, str | int) or not clean_label(str(label)):
        faults.append((location, ProblemCode.MISSING_FIELD, "it has no label"))
        return None
    if kind not in _WITH_AREA:
        message = f"a {str(kind)[:60]} has no area; outline the object, or delete the shape"
        faults.append((location, ProblemCode.BAD_VALUE, message))
        return None
    points = _read_points(shape.get("points"))
    if points is None:
        message = "points is not a list of at least two pairs of finite numbers"
        faults.append((location, ProblemCode.BAD_NUMBER, message))
        return None
    edges = _enclose_circle(points) if kind == "circle" else _enclose(points)
    return ParsedBox(location=location, label=clean_label(str(label)), edges=edges)


def _read_points(value: Any) -> list[tuple[float, float]] | None:
    if not isinstance(value, list) or len(value) < 2:
        return None
    points: list[tuple[float, float]] = []
    for point in value:
        is_pair = isinstance(point, list) and len(point) == 2
        if not is_pair or not all(type(number) in (int, float) for number in point):
            return None
        points.append((float(point[0]), float(point[1])))
    return points if all(map(math.isfinite, (n for point in points for n in point))) else None


def _enclose(points: Sequence[tuple[float, float]]) -> Edges:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _enclose_circle(points: Sequence[tuple[float, float]]) -> Edges:
    """The box of a circle, which is given by its center and a point on it."""
    (x, y), rim = points[0], points[1]
    radius = math.dist((x, y), rim)
    return x - radius, y - radius, 2 * radius, 2 * radius


def _join(first: ParsedBox, second: ParsedBox) -> ParsedBox:
    corners = [
        corner
        for x, y, width, height in (first.edges, second.edges)
        for corner in ((x, y), (x + width, y + height))
    ]
    return replace(first, edges=_enclose(corners))
