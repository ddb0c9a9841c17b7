"""Reads Pascal VOC folders: one XML file an image, with the line of everything in it.

VOC counts pixels from 1 and includes the last one, so a box from xmin to xmax spans xmax - xmin + 1
pixels and begins at xmin - 1. `difficult` objects become crowd boxes: not trained on, no false positive.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from configs.spec import ClassNames
from workers.data.draft import Draft, DraftBox, DraftImage
from workers.data.problems import Fault, Problem

_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class _Element:
    tag: str
    line: int
    text: str = ""
    children: list["_Element"] = field(default_factory=list)

    def first(self, tag: str) -> "_Element | None":
        return next((child for child in self.children if child.tag == tag), None)

    def text_of(self, tag: str) -> str:
        child = self.first(tag)
        return "" if child is None else child.text.strip()


def classes_of_voc(drafts: list[Draft]) -> ClassNames:
    """Every class that occurs, sorted."""
    labels = {box.label for draft in drafts for image in draft.images for box in image.boxes}
    return tuple(sorted(labels))


def read_voc(root: Path, image_set: str) -> Draft:
    """The images and boxes of `ImageSets/Main/<image_set>.txt`."""
    draft = Draft(root / "JPEGImages")
    listing = root / "ImageSets" / "Main" / f"{image_set}.txt"
    if not listing.is_file():
        draft.problems.append(Problem(listing, "file", Fault.MALFORMED, "it does not exist"))
        return draft
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if words:
            _read_image(root, words[0], listing=f"line {number}", draft=draft, listing_file=listing)
    return draft


def _read_image(root: Path, name: str, *, listing: str, draft: Draft, listing_file: Path) -> None:
    path = root / "Annotations" / f"{name}.xml"
    if not path.resolve().is_relative_to((root / "Annotations").resolve()):
        draft.problems.append(Problem(listing_file, listing, Fault.PATH_ESCAPES, name))
        return
    if not path.is_file():
        draft.problems.append(Problem(listing_file, listing, Fault.MALFORMED, f"{path} does not exist"))
        return
    try:
        tree = _parse(path)
    except expat.ExpatError as error:
        draft.problems.append(Problem(path, f"line {error.lineno}", Fault.MALFORMED, str(error)))
        return
    boxes = [_box(element, path, draft) for element in tree.children if element.tag == "object"]
    file_name = tree.text_of("filename") or f"{name}.jpg"
    draft.images.append(
        DraftImage(path, f"line {tree.line}", file_name, _size(tree), tuple(b for b in boxes if b))
    )


def _parse(path: Path) -> _Element:
    root = _Element("", 0)
    stack = [root]
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = _Element(tag, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(tag: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def refuse(*declaration: Any) -> None:
        # A document type can declare entities that expand without end or read other files.
        error = expat.ExpatError("a document type declaration is not allowed")
        error.lineno = parser.CurrentLineNumber
        raise error

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, refuse
    parser.Parse(path.read_bytes(), True)  # noqa: FBT003 - expat's own signature
    return root.children[0]


def _size(tree: _Element) -> tuple[int, int] | None:
    size = tree.first("size")
    if size is None or not (size.text_of("width").isdigit() and size.text_of("height").isdigit()):
        return None
    return int(size.text_of("width")), int(size.text_of("height"))


def _box(element: _Element, path: Path, draft: Draft) -> DraftBox | None:
    where = f"line {element.line}"
    frame = element.first("bndbox")
    try:
        left, top, right, bottom = (float(frame.text_of(edge)) for edge in _EDGES)  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        message = f"an object needs bndbox with {', '.join(_EDGES)}"
        draft.problems.append(Problem(path, where, Fault.BAD_BOX, message))
        return None
    # A box that ends where it begins marks nothing; one pixel is xmax = xmin + 1 in what tools write.
    box = (left - 1, top - 1, right - left + 1, bottom - top + 1) if right > left and bottom > top else (left, top, 0.0, 0.0)
    return DraftBox(where, element.text_of("name"), box, element.text_of("difficult") == "1")
