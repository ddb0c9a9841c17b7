"""Parses COCO files, which are not trusted: every violation of the format becomes a `Problem`.

Boxes, classes, crowd flags and areas are imported; masks and keypoints are not. Categories are
matched by name, so train and val may number them differently.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configs.spec.dataset import ClassNames
from workers.data.formats.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.problems import Problem, ProblemCode, display_path

_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}

Document = Mapping[str, object]
Text = Annotated[str, Field(min_length=1)]
Pixels = Annotated[int, Field(ge=1)]


class _Entry(BaseModel):
    """The base of all entries; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="ignore")

    id: int


class _Image(_Entry):
    file_name: Text
    width: Pixels
    height: Pixels


class _Category(_Entry):
    name: Text


class _Annotation(_Entry):
    image_id: int
    category_id: int
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    iscrowd: Literal[0, 1, False, True] = 0
    area: object = None


EntryT = TypeVar("EntryT", bound=_Entry)


@dataclass
class _CocoReader:
    """A COCO file, and the problems found so far."""

    path: Path
    problems: list[Problem] = field(default_factory=list)

    def add_problem(
        self, location: str, code: ProblemCode, message: str, image: str | None = None
    ) -> None:
        self.problems.append(Problem(display_path(self.path), location, code, message, image))


def read_coco(annotations: Path, images_dir: Path) -> tuple[ParsedSplit, ClassNames]:
    """Parse a COCO file; returns its images with boxes, and its classes ordered by id."""
    reader = _CocoReader(annotations)
    document = _load_json(reader)
    names = _parse_categories(document, reader)
    images, all_ids = _parse_images(document, reader)
    boxes = _parse_boxes(document, reader, names, images, all_ids)
    parsed_images = tuple(
        ParsedImage(
            file=annotations,
            location=f"image {image.id}",
            name=image.file_name,
            size=(image.width, image.height),
            size_location=f"image {image.id}",
            boxes=tuple(boxes[image.id]),
            id=image.id,
        )
        for image in images.values()
    )
    split = ParsedSplit(
        file=annotations,
        images_dir=images_dir,
        images=parsed_images,
        problems=tuple(reader.problems),
        num_listed_images=len(_get_list(document, "images")),
        num_listed_boxes=len(_get_list(document, "annotations")),
    )
    return split, tuple(name for _, name in sorted(names.items()))


def _load_json(reader: _CocoReader) -> Document:
    try:
        document = json.loads(reader.path.read_bytes())
    except json.JSONDecodeError as error:
        location = f"line {error.lineno}, column {error.colno}"
        reader.add_problem(location, ProblemCode.MALFORMED_FILE, f"not JSON: {error.msg}")
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        reader.add_problem("whole file", ProblemCode.MALFORMED_FILE, f"not JSON: {error}")
    except OSError as error:
        reader.add_problem("whole file", ProblemCode.MISSING_FILE, error.strerror or str(error))
    else:
        return _check_structure(document, reader)
    return {}


def _check_structure(document: object, reader: _CocoReader) -> Document:
    if not isinstance(document, dict):
        reader.add_problem(
            "whole file", ProblemCode.MALFORMED_FILE, "it is not an object with lists"
        )
        return {}
    for key in ("images", "annotations", "categories"):
        if key not in document:
            reader.add_problem("whole file", ProblemCode.MISSING_FIELD, f"it has no list of {key}")
        elif not isinstance(document[key], list):
            reader.add_problem(key, ProblemCode.MALFORMED_FILE, f"{key} is not a list")
    return document


def _get_list(document: Document, key: str) -> list[object]:
    value = document.get(key)
    return value if isinstance(value, list) else []


def _iter_entries(
    document: Document, key: str, model: type[EntryT], reader: _CocoReader
) -> Iterator[tuple[int, EntryT]]:
    """Yield the valid entries of a list with their positions; others become problems."""
    for position, entry in enumerate(_get_list(document, key)):
        try:
            yield position, model.model_validate(entry)
        except ValidationError as error:
            location = _format_location(key, position, entry)
            for code, message in dict.fromkeys(_explain(error)):
                reader.add_problem(location, code, message, _get_file_name(entry))


def _explain(error: ValidationError) -> Iterator[tuple[ProblemCode, str]]:
    for detail in error.errors(include_url=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else "it"
        if detail["type"] == "missing":
            yield ProblemCode.MISSING_FIELD, f"it has no {name}"
        elif name == "bbox":
            yield ProblemCode.BAD_NUMBER, "bbox is not a list of four finite numbers"
        else:
            yield (
                ProblemCode.BAD_VALUE,
                f"{name} is {detail['input']!r:.60}: {detail['msg'].lower()}",
            )


def _format_location(key: str, position: int, entry: object) -> str:
    identifier = _get_id(entry)
    return f"{key}[{position}]" if identifier is None else f"{_SINGULAR[key]} {identifier}"


def _get_id(entry: object) -> int | None:
    identifier = entry.get("id") if isinstance(entry, dict) else None
    return identifier if type(identifier) is int else None


def _get_file_name(entry: object) -> str | None:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _parse_categories(document: Document, reader: _CocoReader) -> dict[int, str]:
    """Names by id. An id with two names is dropped; of a name with two ids, the first stays."""
    names: dict[int, str] = {}
    ambiguous: set[int] = set()
    for _, category in _iter_entries(document, "categories", _Category, reader):
        location, code = f"category {category.id}", ProblemCode.DUPLICATE_CLASS
        if category.id in names:
            reader.add_problem(
                location, code, f"the id is that of {names[category.id]!r} and {category.name!r}"
            )
            ambiguous.add(category.id)
        elif category.name in names.values():
            reader.add_problem(
                location, code, f"another category has the name {category.name!r}, too"
            )
        else:
            names[category.id] = category.name
    return {identifier: name for identifier, name in names.items() if identifier not in ambiguous}


def _parse_images(document: Document, reader: _CocoReader) -> tuple[dict[int, _Image], set[int]]:
    """Usable images by id, and all ids in the list: annotations of these are not orphans."""
    images: dict[int, _Image] = {}
    positions: dict[int, int] = {}
    ambiguous: set[int] = set()
    for position, image in _iter_entries(document, "images", _Image, reader):
        first = images.get(image.id)
        if first is None:
            images[image.id], positions[image.id] = image, position
            continue
        message = (
            f"images[{position}] has the id of images[{positions[image.id]}], {first.file_name}"
        )
        reader.add_problem(
            f"image {image.id}", ProblemCode.DUPLICATE_IMAGE_ID, message, image.file_name
        )
        if image != first:
            ambiguous.add(image.id)
    all_ids = {
        identifier
        for entry in _get_list(document, "images")
        if (identifier := _get_id(entry)) is not None
    }
    return {key: image for key, image in images.items() if key not in ambiguous}, all_ids


def _parse_boxes(
    document: Document,
    reader: _CocoReader,
    names: Mapping[int, str],
    images: Mapping[int, _Image],
    all_ids: set[int],
) -> dict[int, list[ParsedBox]]:
    """The boxes of each usable image, by its id."""
    boxes: dict[int, list[ParsedBox]] = {identifier: [] for identifier in images}
    positions: dict[int, int] = {}
    for position, annotation in _iter_entries(document, "annotations", _Annotation, reader):
        location = f"annotation {annotation.id}"
        image = images.get(annotation.image_id)
        if annotation.id in positions:
            message = (
                f"annotations[{position}] has the id of annotations[{positions[annotation.id]}]"
            )
            name = None if image is None else image.file_name
            reader.add_problem(location, ProblemCode.DUPLICATE_ANNOTATION_ID, message, name)
            continue
        positions[annotation.id] = position
        if annotation.image_id not in all_ids:
            message = f"image {annotation.image_id} is not in the list of images"
            reader.add_problem(location, ProblemCode.ORPHAN_ANNOTATION, message)
        if image is not None:
            label = names.get(annotation.category_id, f"category {annotation.category_id}")
            boxes[image.id].append(_build_box(annotation, location, label))
    return boxes


def _build_box(annotation: _Annotation, location: str, label: str) -> ParsedBox:
    x, y, width, height = annotation.bbox
    return ParsedBox(
        location=location,
        label=label,
        edges=(x, y, width, height),
        is_crowd=bool(annotation.iscrowd),
        area=_valid_area(annotation.area),
    )


def _valid_area(value: object) -> float | None:
    """The annotated area; None if it is not a positive number, as mmdet ignores such boxes."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return value
    return None
