"""Reads Pascal VOC folders: Annotations, JPEGImages and ImageSets/Main, one XML file an image.

VOC counts pixels from 1. As in mmdet (`XMLDataset`, `tools/dataset_converters/pascal_voc.py`), 1 is
taken off all four edges: a box is [xmin - 1, ymin - 1, xmax - xmin, ymax - ymin], and one that ends
where it begins is empty. `difficult` objects become crowd boxes, which mmdet and COCOeval treat as
mmdet treats `difficult`: they are no targets, need not be found, and found they are no mistake.

An image's file has the name of its XML file; `<filename>` is not followed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from workers.data.images import UnsafePath, resolve_image_path
from workers.data.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.problems import Problem, ProblemCode, display_path

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG", ".BMP")
_CLASS_MARKS = {"-1", "0", "1"}
_DIFFICULT = {"": False, "0": False, "1": True}

Fault = tuple[int, ProblemCode, str]
"""Line, kind and message of something in an XML file."""


@dataclass(frozen=True)
class _Listed:
    """A line of a list of images."""

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
    """The images and boxes of `ImageSets/Main/<image_set>.txt`."""
    list_file = root / "ImageSets" / "Main" / f"{image_set}.txt"
    images: list[ParsedImage] = []
    problems: list[Problem] = []
    num_boxes = 0
    listed = list(_read_list(list_file, problems))
    seen: set[str] = set()
    for number, entry in enumerate(listed, start=1):
        if entry.name in seen:
            problems.append(
                entry.problem(ProblemCode.DUPLICATE_FILE_NAME, f"{entry.name} is listed before")
            )
            continue
        seen.add(entry.name)
        image, found, num_listed = _read_image(root, entry, number=number)
        problems += found
        num_boxes += num_listed
        if image is not None:
            images.append(image)
    return ParsedSplit(
        file=list_file,
        images_dir=root / "JPEGImages",
        images=tuple(images),
        problems=tuple(problems),
        num_listed_images=len(listed),
        num_listed_boxes=num_boxes,
    )


def _read_list(path: Path, problems: list[Problem]) -> Iterator[_Listed]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        why = error.strerror or str(error)
        problems.append(Problem(display_path(path), "whole file", ProblemCode.MISSING_FILE, why))
        return
    except UnicodeDecodeError as error:
        problems.append(
            Problem(display_path(path), "whole file", ProblemCode.MALFORMED_FILE, str(error))
        )
        return
    for number, line in enumerate(lines, start=1):
        words = line.split()
        # Lists of one class mark each image: 1 shows it, -1 does not, 0 is difficult.
        if len(words) == 2 and words[1] in _CLASS_MARKS:
            words.pop()
        if words:
            yield _Listed(path, number, " ".join(words))


def _read_image(
    root: Path, listed: _Listed, *, number: int
) -> tuple[ParsedImage | None, list[Problem], int]:
    """The image, its problems, and how many boxes it lists."""
    try:
        resolve_image_path(root / "Annotations", f"{listed.name}.xml")
    except UnsafePath as error:
        return None, [listed.problem(ProblemCode.UNSAFE_PATH, str(error))], 0
    path = root / "Annotations" / f"{listed.name}.xml"
    if not path.is_file():
        message = f"{display_path(path)} is not there"
        return None, [listed.problem(ProblemCode.MISSING_FILE, message)], 0
    image_name = _image_name(root / "JPEGImages", listed.name)
    try:
        tree = _parse(path)
    except _Malformed as error:
        fault = (error.line, ProblemCode.MALFORMED_FILE, str(error))
        return None, [_problem(path, fault, image_name)], 0
    faults: list[Fault] = []
    objects = [element for element in tree.children if element.tag == "object"]
    boxes = [box for element in objects if (box := _box(element, faults)) is not None]
    size = _size(tree, faults)
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
    return image, [_problem(path, fault, image_name) for fault in faults], len(objects)


def _image_name(images_dir: Path, name: str) -> str:
    found = (name + suffix for suffix in _SUFFIXES if (images_dir / (name + suffix)).exists())
    return next(found, f"{name}.jpg")


def _problem(path: Path, fault: Fault, image_name: str) -> Problem:
    line, code, message = fault
    return Problem(display_path(path), f"line {line}", code, message, image_name)


def _parse(path: Path) -> _Element:
    """The document's tree, with line numbers."""
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

    def refuse(*_declaration: object) -> None:
        # It can declare entities that expand without end or read other files.
        raise _Malformed(parser.CurrentLineNumber, "a document type (<!DOCTYPE>) is not allowed")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: stack[-1].texts.append(text)
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise _Malformed(error.lineno, f"not XML: {expat.ErrorString(error.code)}") from error
    except (OSError, ValueError, LookupError) as error:
        raise _Malformed(1, str(error)) from error
    root = top.children[0]
    if root.tag != "annotation":
        raise _Malformed(root.line, f"it holds <{root.tag}>, not <annotation>")
    return root


def _size(tree: _Element, faults: list[Fault]) -> tuple[int, int] | None:
    size = _child(tree, "size", faults)
    if size is None:
        return None
    width, height = _number(size, "width", faults), _number(size, "height", faults)
    if width is None or height is None:
        return None
    return round(width), round(height)


def _box(element: _Element, faults: list[Fault]) -> ParsedBox | None:
    before = len(faults)
    name = _child(element, "name", faults)
    if name is not None and not name.text:
        faults.append((name.line, ProblemCode.MISSING_FIELD, "<name> is empty"))
    difficult = element.child("difficult")
    is_difficult = _DIFFICULT.get("" if difficult is None else difficult.text)
    if difficult is not None and is_difficult is None:
        message = f"<difficult> is {difficult.text!r:.60}, neither 0 nor 1"
        faults.append((difficult.line, ProblemCode.BAD_VALUE, message))
    edges = _edges(element, faults)
    if name is None or edges is None or len(faults) > before:
        return None
    left, top, right, bottom = edges
    return ParsedBox(
        location=f"line {element.line}",
        label=name.text,
        edges=(left - 1, top - 1, right - left, bottom - top),
        is_crowd=bool(is_difficult),
    )


def _edges(element: _Element, faults: list[Fault]) -> tuple[float, float, float, float] | None:
    frame = _child(element, "bndbox", faults)
    if frame is None:
        return None
    left, top, right, bottom = (_number(frame, edge, faults) for edge in _EDGES)
    if left is None or top is None or right is None or bottom is None:
        return None
    return left, top, right, bottom


def _child(element: _Element, tag: str, faults: list[Fault]) -> _Element | None:
    found = element.child(tag)
    if found is None:
        faults.append((element.line, ProblemCode.MISSING_FIELD, f"<{element.tag}> has no <{tag}>"))
    return found


def _number(element: _Element, tag: str, faults: list[Fault]) -> float | None:
    """The finite number in a child."""
    found = _child(element, tag, faults)
    if found is None:
        return None
    try:
        number = float(found.text)
    except ValueError:
        number = float("nan")
    if abs(number) < float("inf"):
        return number
    faults.append(
        (found.line, ProblemCode.BAD_NUMBER, f"<{tag}> is {found.text!r:.60}, not a finite number")
    )
    return None
