"""Parses Pascal VOC folders: Annotations, JPEGImages and ImageSets/Main, one XML file per image.

VOC counts pixels from 1. As in mmdet (`XMLDataset`, `tools/dataset_converters/pascal_voc.py`), 1 is
subtracted from all four edges: a box is [xmin - 1, ymin - 1, xmax - xmin, ymax - ymin], and it is
empty if xmin equals xmax. `difficult` objects become crowd boxes, which mmdet and COCOeval treat as
mmdet treats `difficult`: they are no targets, and detecting them is neither required nor an error.

An image has the name of its XML file; `<filename>` is ignored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from workers.data.formats.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.images import UnsafePath, resolve_image_path
from workers.data.problems import Problem, ProblemCode, display_path

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG", ".BMP")
_CLASS_FLAGS = {"-1", "0", "1"}
_DIFFICULT = {"": False, "0": False, "1": True}

Fault = tuple[int, ProblemCode, str]
"""Line, code and message of a problem in an XML file."""


@dataclass(frozen=True)
class _ListEntry:
    """One line of a list of images."""

    list_file: Path
    line: int
    name: str

    def problem(self, code: ProblemCode, message: str) -> Problem:
        return Problem(display_path(self.list_file), f"line {self.line}", code, message, self.name)


@dataclass
class _Element:
    tag: str
    line: int
    texts: list[str] = field(default_factory=list)
    children: list["_Element"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts).strip()

    def child(self, tag: str) -> "_Element | None":
        return next((child for child in self.children if child.tag == tag), None)


class _Malformed(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_voc(root: Path, image_set: str) -> ParsedSplit:
    """Parse the images and boxes that `ImageSets/Main/<image_set>.txt` lists."""
    list_file = root / "ImageSets" / "Main" / f"{image_set}.txt"
    images: list[ParsedImage] = []
    problems: list[Problem] = []
    num_boxes = 0
    entries = list(_read_list(list_file, problems))
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        if entry.name in seen:
            problems.append(
                entry.problem(ProblemCode.DUPLICATE_FILE_NAME, f"{entry.name} is listed before")
            )
            continue
        seen.add(entry.name)
        image, image_problems, num_objects = _read_image(root, entry, number=number)
        problems += image_problems
        num_boxes += num_objects
        if image is not None:
            images.append(image)
    return ParsedSplit(
        file=list_file,
        images_dir=root / "JPEGImages",
        images=tuple(images),
        problems=tuple(problems),
        num_listed_images=len(entries),
        num_listed_boxes=num_boxes,
    )


def _read_list(path: Path, problems: list[Problem]) -> Iterator[_ListEntry]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        reason = error.strerror or str(error)
        problems.append(Problem(display_path(path), "whole file", ProblemCode.MISSING_FILE, reason))
        return
    except UnicodeDecodeError as error:
        problems.append(
            Problem(display_path(path), "whole file", ProblemCode.MALFORMED_FILE, str(error))
        )
        return
    for number, line in enumerate(lines, start=1):
        columns = line.split()
        # Lists of one class flag each image: 1 contains it, -1 does not, 0 is difficult.
        if len(columns) == 2 and columns[1] in _CLASS_FLAGS:
            columns.pop()
        if columns:
            yield _ListEntry(path, number, " ".join(columns))


def _read_image(
    root: Path, entry: _ListEntry, *, number: int
) -> tuple[ParsedImage | None, list[Problem], int]:
    """Parse one XML file; returns the image, its problems and its number of objects."""
    try:
        resolve_image_path(root / "Annotations", f"{entry.name}.xml")
    except UnsafePath as error:
        return None, [entry.problem(ProblemCode.UNSAFE_PATH, str(error))], 0
    path = root / "Annotations" / f"{entry.name}.xml"
    if not path.is_file():
        message = f"{display_path(path)} does not exist"
        return None, [entry.problem(ProblemCode.MISSING_FILE, message)], 0
    image_name = _find_image_name(root / "JPEGImages", entry.name)
    try:
        tree = _parse_xml(path)
    except _Malformed as error:
        fault = (error.line, ProblemCode.MALFORMED_FILE, str(error))
        return None, [_build_problem(path, fault, image_name)], 0
    faults: list[Fault] = []
    objects = [element for element in tree.children if element.tag == "object"]
    boxes = [box for element in objects if (box := _parse_box(element, faults)) is not None]
    size = _parse_size(tree, faults)
    image = None
    if size is not None:
        image = ParsedImage(
            file=path,
            location=f"line {(tree.child('filename') or tree).line}",
            name=image_name,
            size=size,
            size_location=f"line {(tree.child('size') or tree).line}",
            boxes=tuple(boxes),
            id=number,
        )
    return image, [_build_problem(path, fault, image_name) for fault in faults], len(objects)


def _find_image_name(images_dir: Path, name: str) -> str:
    candidates = (name + suffix for suffix in _SUFFIXES)
    existing = (candidate for candidate in candidates if (images_dir / candidate).exists())
    return next(existing, f"{name}.jpg")


def _build_problem(path: Path, fault: Fault, image_name: str) -> Problem:
    line, code, message = fault
    return Problem(display_path(path), f"line {line}", code, message, image_name)


def _parse_xml(path: Path) -> _Element:
    """Parse the document into a tree with line numbers; raises `_Malformed`."""
    top = _Element("", 0)
    stack = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, _attributes: dict[str, str]) -> None:
        element = _Element(tag, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(_tag: str) -> None:
        stack.pop()

    def reject_doctype(*_declaration: object) -> None:
        # It can declare entities that expand endlessly or read other files.
        raise _Malformed(parser.CurrentLineNumber, "a document type (<!DOCTYPE>) is not allowed")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: stack[-1].texts.append(text)
    parser.StartDoctypeDeclHandler = reject_doctype
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise _Malformed(error.lineno, f"not XML: {expat.ErrorString(error.code)}") from error
    except (OSError, ValueError, LookupError) as error:
        raise _Malformed(1, str(error)) from error
    root = top.children[0]
    if root.tag != "annotation":
        raise _Malformed(root.line, f"its root element is <{root.tag}>, not <annotation>")
    return root


def _parse_size(tree: _Element, faults: list[Fault]) -> tuple[int, int] | None:
    size = _require_child(tree, "size", faults)
    if size is None:
        return None
    width, height = _parse_number(size, "width", faults), _parse_number(size, "height", faults)
    if width is None or height is None:
        return None
    return round(width), round(height)


def _parse_box(element: _Element, faults: list[Fault]) -> ParsedBox | None:
    num_faults = len(faults)
    name = _require_child(element, "name", faults)
    if name is not None and not name.text:
        faults.append((name.line, ProblemCode.MISSING_FIELD, "<name> is empty"))
    difficult = element.child("difficult")
    is_difficult = _DIFFICULT.get("" if difficult is None else difficult.text)
    if difficult is not None and is_difficult is None:
        message = f"<difficult> is {difficult.text!r:.60}, neither 0 nor 1"
        faults.append((difficult.line, ProblemCode.BAD_VALUE, message))
    edges = _parse_edges(element, faults)
    if name is None or edges is None or len(faults) > num_faults:
        return None
    x_min, y_min, x_max, y_max = edges
    return ParsedBox(
        location=f"line {element.line}",
        label=name.text,
        edges=(x_min - 1, y_min - 1, x_max - x_min, y_max - y_min),
        is_crowd=bool(is_difficult),
    )


def _parse_edges(
    element: _Element, faults: list[Fault]
) -> tuple[float, float, float, float] | None:
    frame = _require_child(element, "bndbox", faults)
    if frame is None:
        return None
    x_min, y_min, x_max, y_max = (_parse_number(frame, edge, faults) for edge in _EDGES)
    if x_min is None or y_min is None or x_max is None or y_max is None:
        return None
    return x_min, y_min, x_max, y_max


def _require_child(element: _Element, tag: str, faults: list[Fault]) -> _Element | None:
    child = element.child(tag)
    if child is None:
        faults.append((element.line, ProblemCode.MISSING_FIELD, f"<{element.tag}> has no <{tag}>"))
    return child


def _parse_number(element: _Element, tag: str, faults: list[Fault]) -> float | None:
    """The finite number in a child element; None, and a fault, if there is none."""
    child = _require_child(element, tag, faults)
    if child is None:
        return None
    try:
        number = float(child.text)
    except ValueError:
        number = float("nan")
    if abs(number) < float("inf"):
        return number
    faults.append(
        (child.line, ProblemCode.BAD_NUMBER, f"<{tag}> is {child.text!r:.60}, not a finite number")
    )
    return None
