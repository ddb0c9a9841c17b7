"""Parses COCO files, which are not trusted: every violation of the format becomes a `Problem`.

Boxes, classes, crowd flags and areas are imported; masks and keypoints are not. Categories are
matched by name, so train and val may number them differently.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from configs.spec.dataset import ClassNames
from workers.data.formats.categories import Category, Classes, choose_classes, sort_names
from workers.data.formats.file_names import FileIndex
from workers.data.formats.identifiers import Identifier, IdSpace, parse_identifier
from workers.data.formats.parsed import (
    ParsedBox,
    ParsedImage,
    ParsedSplit,
    clean_label,
    describe_missing_sizes,
)
from workers.data.problems import Problem, ProblemCode, display_path

_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}
_FLAGS: dict[object, int] = {0: 0, 1: 1, "0": 0, "1": 1, "false": 0, "true": 1, None: 0, "": 0}

Document = Mapping[str, object]


def _read_number(value: Any) -> Any:
    """Numbers that are written as text, as by VIA and pandas; other values stay."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _read_length(value: Any) -> Any:
    """A number of pixels; None for what is empty, 0 or less, which stands for "not known"."""
    number = _read_number(value)
    is_unknown = number == "" or (type(number) in (int, float) and number <= 0)
    return None if is_unknown else number


def _read_flag(value: Any) -> Any:
    is_plain = isinstance(value, str | int | float | None)
    key = value.strip().lower() if isinstance(value, str) else value
    return _FLAGS.get(key, value) if is_plain else value


def _read_name(value: Any) -> Any:
    """A class name; classes that are numbers, as of digits, may be written as numbers."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = str(value) if is_number else value
    return clean_label(text) if isinstance(text, str) else text


RawId = Annotated[Identifier, BeforeValidator(parse_identifier)]
Text = Annotated[str, Field(min_length=1)]
Length = Annotated[float | None, BeforeValidator(_read_length)]


class _Entry(BaseModel):
    """The base of all entries; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="ignore")

    id: RawId


class _Image(_Entry):
    file_name: Text
    width: Length = None
    height: Length = None

    @property
    def size(self) -> tuple[int, int] | None:
        """None if width or height is missing, empty or 0."""
        if self.width is None or self.height is None:
            return None
        return round(self.width), round(self.height)


class _Category(_Entry):
    name: Annotated[Text, BeforeValidator(_read_name)]
    supercategory: object = None


class _Annotation(_Entry):
    image_id: RawId
    category_id: RawId
    bbox: Annotated[
        list[Annotated[float, BeforeValidator(_read_number)]], Field(min_length=4, max_length=4)
    ]
    iscrowd: Annotated[Literal[0, 1], BeforeValidator(_read_flag)] = 0
    area: object = None


EntryT = TypeVar("EntryT", bound=_Entry)


@dataclass
class _CocoReader:
    """A COCO file, and the problems found so far."""

    path: Path
    document: Document = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @cached_property
    def image_ids(self) -> IdSpace:
        return IdSpace(self.list_values("images", "id"))

    @cached_property
    def category_ids(self) -> IdSpace:
        return IdSpace(self.list_values("categories", "id"))

    @cached_property
    def annotation_ids(self) -> IdSpace:
        return IdSpace(self.list_values("annotations", "id"))

    def list_entries(self, key: str) -> list[object]:
        value = self.document.get(key)
        return value if isinstance(value, list) else []

    def list_values(self, key: str, field: str) -> list[object]:
        return [entry.get(field) for entry in self.list_entries(key) if isinstance(entry, dict)]

    def iter_valid(self, key: str, model: type[EntryT]) -> Iterator[tuple[int, EntryT]]:
        """Yield the valid entries of a list with their positions; others become problems."""
        for position, entry in enumerate(self.list_entries(key)):
            try:
                yield position, model.model_validate(entry)
            except ValidationError as error:
                location = _format_location(key, position, entry)
                for code, message in dict.fromkeys(_explain(error)):
                    self.add_problem(location, code, message, _get_file_name(entry))

    def add_problem(
        self, location: str, code: ProblemCode, message: str, image: str | None = None
    ) -> None:
        self.problems.append(Problem(display_path(self.path), location, code, message, image))


def read_coco(
    annotations: Path, images_dir: Path, *, document: object = None
) -> tuple[ParsedSplit, ClassNames]:
    """Parse a COCO file; returns its images with boxes, and its classes ordered by id.

    `document`: the content of the file if it has been read from JSON.
    """
    reader = _CocoReader(annotations)
    reader.document = _load_json(reader) if document is None else _check_structure(document, reader)
    classes = _parse_categories(reader)
    images = _parse_images(reader)
    boxes = _parse_boxes(reader, classes.names, images)
    files = FileIndex(images_dir).match(image.file_name for image in images.values())
    has_numbers = all(isinstance(key, int) for key in images)
    parsed_images: list[ParsedImage] = []
    for number, (key, image) in enumerate(images.items(), start=1):
        location = f"image {key}"
        if image.file_name in files.failures:
            message = files.failures[image.file_name]
            reader.add_problem(location, ProblemCode.MISSING_IMAGE, message, image.file_name)
            continue
        parsed_images.append(
            ParsedImage(
                file=annotations,
                location=location,
                name=files.files.get(image.file_name, image.file_name),
                size=image.size,
                size_location=location,
                boxes=tuple(boxes[key]),
                id=key if isinstance(key, int) and has_numbers else number,
            )
        )
    num_without_size = sum(image.size is None for image in parsed_images)
    split = ParsedSplit(
        file=annotations,
        images_dir=images_dir,
        images=tuple(parsed_images),
        problems=tuple(reader.problems),
        num_listed_images=len(reader.list_entries("images")),
        num_listed_boxes=len(reader.list_entries("annotations")),
        notes=(
            *classes.notes,
            *files.notes,
            *describe_missing_sizes(num_without_size, annotations),
        ),
    )
    return split, sort_names(classes.names)


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


def _explain(error: ValidationError) -> Iterator[tuple[ProblemCode, str]]:
    for detail in error.errors(include_url=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else "it"
        if detail["type"] == "missing":
            yield ProblemCode.MISSING_FIELD, f"it has no {name}"
        elif name == "bbox":
            yield ProblemCode.BAD_NUMBER, "bbox is not a list of four finite numbers"
        else:
            reason = detail["msg"].removeprefix("Value error, ").lower()
            yield ProblemCode.BAD_VALUE, f"{name} is {detail['input']!r:.60}: {reason}"


def _format_location(key: str, position: int, entry: object) -> str:
    try:
        identifier = parse_identifier(entry.get("id") if isinstance(entry, dict) else None)
    except ValueError:
        return f"{key}[{position}]"
    return f"{_SINGULAR[key]} {identifier}"


def _get_file_name(entry: object) -> str | None:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _parse_categories(reader: _CocoReader) -> Classes:
    """Names by id. An id with two names is dropped; of a name with two ids, the first stays."""
    ids = reader.category_ids
    categories = [
        Category(
            ids.normalize(category.id),
            category.name,
            clean_label(parent) if isinstance(parent := category.supercategory, str) else None,
        )
        for _, category in reader.iter_valid("categories", _Category)
    ]
    used_ids = {ids.read(value) for value in reader.list_values("annotations", "category_id")}
    classes = choose_classes(categories, {key for key in used_ids if key is not None})
    for key, message in classes.conflicts:
        reader.add_problem(f"category {key}", ProblemCode.DUPLICATE_CLASS, message)
    return classes


def _parse_images(reader: _CocoReader) -> dict[Identifier, _Image]:
    """Usable images by id."""
    images: dict[Identifier, _Image] = {}
    positions: dict[Identifier, int] = {}
    ambiguous: set[Identifier] = set()
    for position, image in reader.iter_valid("images", _Image):
        key = reader.image_ids.normalize(image.id)
        first = images.get(key)
        if first is None:
            images[key], positions[key] = image, position
            continue
        message = f"images[{position}] has the id of images[{positions[key]}], {first.file_name}"
        reader.add_problem(f"image {key}", ProblemCode.DUPLICATE_IMAGE_ID, message, image.file_name)
        if image != first:
            ambiguous.add(key)
    return {key: image for key, image in images.items() if key not in ambiguous}


def _parse_boxes(
    reader: _CocoReader, names: Mapping[Identifier, str], images: Mapping[Identifier, _Image]
) -> dict[Identifier, list[ParsedBox]]:
    """The boxes of each usable image, by its id; annotations of unusable ones are no orphans."""
    all_ids = {reader.image_ids.read(value) for value in reader.list_values("images", "id")}
    boxes: dict[Identifier, list[ParsedBox]] = {key: [] for key in images}
    positions: dict[Identifier, int] = {}
    for position, annotation in reader.iter_valid("annotations", _Annotation):
        key = reader.annotation_ids.normalize(annotation.id)
        location = f"annotation {key}"
        image_key = reader.image_ids.normalize(annotation.image_id)
        image = images.get(image_key)
        if key in positions:
            message = f"annotations[{position}] has the id of annotations[{positions[key]}]"
            name = None if image is None else image.file_name
            reader.add_problem(location, ProblemCode.DUPLICATE_ANNOTATION_ID, message, name)
            continue
        positions[key] = position
        if image_key not in all_ids:
            message = f"image {image_key} is not in the list of images"
            reader.add_problem(location, ProblemCode.ORPHAN_ANNOTATION, message)
        if image is not None:
            category = reader.category_ids.normalize(annotation.category_id)
            label = names.get(category, f"category {category}")
            boxes[image_key].append(_build_box(annotation, location, label))
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
