"""Reads a COCO file, believing nothing in it.

Boxes, classes, crowd marks and areas are taken over, masks and keypoints are not. Categories are
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
from workers.data.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.problems import Problem, ProblemCode, display_path

_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}

Document = Mapping[str, object]
Text = Annotated[str, Field(min_length=1)]
Pixels = Annotated[int, Field(ge=1)]


class _Entry(BaseModel):
    """Other people's fields beside ours are fine."""

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
class _Reading:
    """A COCO file while it is read."""

    path: Path
    problems: list[Problem] = field(default_factory=list)

    def note(self, where: str, code: ProblemCode, message: str, image: str | None = None) -> None:
        self.problems.append(Problem(display_path(self.path), where, code, message, image))


def read_coco(annotations: Path, images_dir: Path) -> tuple[ParsedSplit, ClassNames]:
    """The images and boxes of a COCO file, and its classes in the order of their ids."""
    reading = _Reading(annotations)
    document = _load(reading)
    names = _category_names(document, reading)
    images, known_ids = _images(document, reading)
    boxes = _boxes(document, reading, names, images, known_ids)
    drafts = tuple(
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
    draft = ParsedSplit(
        file=annotations,
        images_dir=images_dir,
        images=drafts,
        problems=tuple(reading.problems),
        num_listed_images=len(_list(document, "images")),
        num_listed_boxes=len(_list(document, "annotations")),
    )
    return draft, tuple(name for _, name in sorted(names.items()))


def _load(reading: _Reading) -> Document:
    try:
        document = json.loads(reading.path.read_bytes())
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        reading.note(where, ProblemCode.MALFORMED_FILE, f"not JSON: {error.msg}")
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        reading.note("whole file", ProblemCode.MALFORMED_FILE, f"not JSON: {error}")
    except OSError as error:
        reading.note("whole file", ProblemCode.MISSING_FILE, error.strerror or str(error))
    else:
        return _of_right_shape(document, reading)
    return {}


def _of_right_shape(document: object, reading: _Reading) -> Document:
    if not isinstance(document, dict):
        reading.note("whole file", ProblemCode.MALFORMED_FILE, "it is not an object with lists")
        return {}
    for key in ("images", "annotations", "categories"):
        if key not in document:
            reading.note("whole file", ProblemCode.MISSING_FIELD, f"it has no list of {key}")
        elif not isinstance(document[key], list):
            reading.note(key, ProblemCode.MALFORMED_FILE, f"{key} is not a list")
    return document


def _list(document: Document, key: str) -> list[object]:
    value = document.get(key)
    return value if isinstance(value, list) else []


def _entries(
    document: Document, key: str, model: type[EntryT], reading: _Reading
) -> Iterator[tuple[int, EntryT]]:
    """The entries of a list that have what they need, with their positions."""
    for position, entry in enumerate(_list(document, key)):
        try:
            yield position, model.model_validate(entry)
        except ValidationError as error:
            where = _where(key, position, entry)
            for code, message in dict.fromkeys(_faults(error)):
                reading.note(where, code, message, _file_name(entry))


def _faults(error: ValidationError) -> Iterator[tuple[ProblemCode, str]]:
    for fault in error.errors(include_url=False, include_context=False):
        name = str(fault["loc"][0]) if fault["loc"] else "it"
        if fault["type"] == "missing":
            yield ProblemCode.MISSING_FIELD, f"it has no {name}"
        elif name == "bbox":
            yield ProblemCode.BAD_NUMBER, "bbox is not a list of four finite numbers"
        else:
            yield ProblemCode.BAD_VALUE, f"{name} is {fault['input']!r:.60}: {fault['msg'].lower()}"


def _where(key: str, position: int, entry: object) -> str:
    identifier = _id_of(entry)
    return f"{key}[{position}]" if identifier is None else f"{_SINGULAR[key]} {identifier}"


def _id_of(entry: object) -> int | None:
    identifier = entry.get("id") if isinstance(entry, dict) else None
    return identifier if type(identifier) is int else None


def _file_name(entry: object) -> str | None:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _category_names(document: Document, reading: _Reading) -> dict[int, str]:
    """Names by id; an id with two names has none, and a name with two ids has the first."""
    names: dict[int, str] = {}
    ambiguous: set[int] = set()
    for _, category in _entries(document, "categories", _Category, reading):
        where, code = f"category {category.id}", ProblemCode.DUPLICATE_CLASS
        if category.id in names:
            reading.note(
                where, code, f"the id is that of {names[category.id]!r} and {category.name!r}"
            )
            ambiguous.add(category.id)
        elif category.name in names.values():
            reading.note(where, code, f"another category is called {category.name!r} too")
        else:
            names[category.id] = category.name
    return {identifier: name for identifier, name in names.items() if identifier not in ambiguous}


def _images(document: Document, reading: _Reading) -> tuple[dict[int, _Image], set[int]]:
    """Usable images by id, and every id that the list has: their annotations are no orphans."""
    images: dict[int, _Image] = {}
    positions: dict[int, int] = {}
    ambiguous: set[int] = set()
    for position, image in _entries(document, "images", _Image, reading):
        first = images.get(image.id)
        if first is None:
            images[image.id], positions[image.id] = image, position
            continue
        message = (
            f"images[{position}] has the id of images[{positions[image.id]}], {first.file_name}"
        )
        reading.note(f"image {image.id}", ProblemCode.DUPLICATE_IMAGE_ID, message, image.file_name)
        if image != first:
            ambiguous.add(image.id)
    known = {
        identifier
        for entry in _list(document, "images")
        if (identifier := _id_of(entry)) is not None
    }
    return {key: image for key, image in images.items() if key not in ambiguous}, known


def _boxes(
    document: Document,
    reading: _Reading,
    names: Mapping[int, str],
    images: Mapping[int, _Image],
    known_ids: set[int],
) -> dict[int, list[ParsedBox]]:
    """Boxes by the id of their image."""
    boxes: dict[int, list[ParsedBox]] = {identifier: [] for identifier in images}
    positions: dict[int, int] = {}
    for position, annotation in _entries(document, "annotations", _Annotation, reading):
        where = f"annotation {annotation.id}"
        image = images.get(annotation.image_id)
        if annotation.id in positions:
            message = (
                f"annotations[{position}] has the id of annotations[{positions[annotation.id]}]"
            )
            name = None if image is None else image.file_name
            reading.note(where, ProblemCode.DUPLICATE_ANNOTATION_ID, message, name)
            continue
        positions[annotation.id] = position
        if annotation.image_id not in known_ids:
            message = f"image {annotation.image_id} is not in the list of images"
            reading.note(where, ProblemCode.ORPHAN_ANNOTATION, message)
        if image is not None:
            label = names.get(annotation.category_id, f"category {annotation.category_id}")
            boxes[image.id].append(_box(annotation, where, label))
    return boxes


def _box(annotation: _Annotation, where: str, label: str) -> ParsedBox:
    left, top, width, height = annotation.bbox
    return ParsedBox(
        location=where,
        label=label,
        edges=(left, top, width, height),
        is_crowd=bool(annotation.iscrowd),
        area=_area(annotation.area),
    )


def _area(value: object) -> float | None:
    """What the annotation says, if that can be an area; mmdet leaves out boxes without any."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return value
    return None
