"""Parses Pascal VOC: one XML file per image, listed in ImageSets/Main or simply in a folder.

VOC counts pixels from 1. As in mmdet (`XMLDataset`, `tools/dataset_converters/pascal_voc.py`), 1 is
subtracted from all four edges: a box is [xmin - 1, ymin - 1, xmax - xmin, ymax - ymin], and it is
empty if xmin equals xmax. `difficult` objects become crowd boxes, which mmdet and COCOeval treat as
mmdet treats `difficult`: they are no targets, and detecting them is neither required nor an error.

An image has the name of its XML file, with any ending; `<filename>` only chooses between several
endings, and `<path>` is ignored.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from workers.data.formats.file_names import FileIndex, find_child, strip_ending
from workers.data.formats.parsed import (
    ParsedBox,
    ParsedImage,
    ParsedSplit,
    clean_label,
    describe_missing_sizes,
)
from workers.data.formats.xml_tree import Element, MalformedXml, parse_xml
from workers.data.images import UnsafePath, resolve_image_path
from workers.data.problems import Problem, ProblemCode, display_path

ANNOTATION_FOLDERS = ("annotations", "annotation", "xml", "xmls", "labels", "label", "annos")
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "jpegs", "jpgs", "pictures")

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_FLAGGED = re.compile(r"(.*?)\s+(?:-1|0|1)\s*")
"""Lists of a single class flag each image: 1 contains it, -1 does not, 0 is difficult."""

_DIFFICULT = {
    **dict.fromkeys(("", "0", "0.0", "false", "no", "none", "unspecified", "unknown"), False),
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
}

Fault = tuple[int, ProblemCode, str]
"""Line, code and message of a problem in an XML file."""


@dataclass(frozen=True)
class VocFiles:
    """Where a split is: its XML files, its images, and the list that names them."""

    annotations: Path
    images: Path
    list_file: Path | None = None
    """None if all XML files in the folder of annotations belong to the split."""


@dataclass(frozen=True)
class _VocEntry:
    """An image to read: a line of a list, or an XML file in a folder."""

    file: Path
    location: str
    name: str
    """The name as listed, or the path of the XML file without its ending."""

    xml: str | None
    """Path of the XML file in the folder of annotations; None if there is none."""

    def problem(self, code: ProblemCode, message: str) -> Problem:
        return Problem(display_path(self.file), self.location, code, message, self.name)


@dataclass
class _VocReader:
    """A split, and the problems found so far."""

    files: VocFiles
    problems: list[Problem] = field(default_factory=list)
    num_boxes: int = 0
    num_without_size: int = 0

    def __post_init__(self) -> None:
        self.xml_index = FileIndex(self.files.annotations)
        self.image_index = FileIndex(self.files.images)


def find_voc_files(root: Path, image_set: str | None = None) -> VocFiles:
    """Find folders and list below `root`, whatever their names' case and usual variants.

    Without folders of these names, XML files and images are taken to be in `root`.
    """
    annotations = find_child(root, *ANNOTATION_FOLDERS) or root
    images = find_child(root, *IMAGE_FOLDERS) or annotations
    list_file = None if image_set is None else _find_list(root, image_set)
    return VocFiles(annotations, images, list_file)


def read_voc(root: Path, image_set: str) -> ParsedSplit:
    """Parse the images and boxes that `ImageSets/Main/<image_set>.txt` lists."""
    return read_voc_files(find_voc_files(root, image_set))


def read_voc_files(files: VocFiles) -> ParsedSplit:
    """Parse the images and boxes of a split."""
    reader = _VocReader(files)
    entries = list(_find_entries(reader))
    images: list[ParsedImage] = []
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        identity = entry.xml or entry.name
        if identity in seen:
            message = f"{entry.name} is listed before"
            reader.problems.append(entry.problem(ProblemCode.DUPLICATE_FILE_NAME, message))
            continue
        seen.add(identity)
        image = _read_image(reader, entry, number=number)
        if image is not None:
            images.append(image)
    return ParsedSplit(
        file=files.list_file or files.annotations,
        images_dir=files.images,
        images=tuple(images),
        problems=tuple(reader.problems),
        num_listed_images=len(entries),
        num_listed_boxes=reader.num_boxes,
        notes=tuple(_collect_notes(reader, images)),
    )


def _find_list(root: Path, image_set: str) -> Path:
    sets = find_child(root, "imagesets") or root
    folders = [find_child(sets, "main"), sets, root, find_child(root, "main", "lists", "splits")]
    name = f"{image_set}.txt".casefold()
    lists = (find_child(folder, name) for folder in folders if folder is not None)
    return next(filter(None, lists), root / "ImageSets" / "Main" / f"{image_set}.txt")


def _find_entries(reader: _VocReader) -> Iterator[_VocEntry]:
    list_file, folder = reader.files.list_file, reader.files.annotations
    if list_file is not None:
        yield from _read_list(list_file, reader)
        return
    for path in reader.xml_index.paths:
        if path.lower().endswith(".xml") and not PurePosixPath(path).name.startswith("."):
            yield _VocEntry(folder / path, "whole file", path[:-4], path)


def _read_list(path: Path, reader: _VocReader) -> Iterator[_VocEntry]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        reason = error.strerror or str(error)
        problem = Problem(display_path(path), "whole file", ProblemCode.MISSING_FILE, reason)
        reader.problems.append(problem)
        return
    except UnicodeDecodeError as error:
        problem = Problem(display_path(path), "whole file", ProblemCode.MALFORMED_FILE, str(error))
        reader.problems.append(problem)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, xml = _find_listed(line, reader.xml_index)
            yield _VocEntry(path, f"line {number}", name, xml)


def _find_listed(line: str, index: FileIndex) -> tuple[str, str | None]:
    """Name and XML file of a line: the complete line comes first, then shorter readings of it."""
    flagged = _FLAGGED.fullmatch(line)
    readings = [line, line.strip(), *([] if flagged is None else [flagged[1], flagged[1].strip()])]
    names = [name for reading in readings for name in (reading, strip_ending(reading))]
    for name in names:
        if index.has(f"{name}.xml"):
            return name, f"{name}.xml"
    if ".." not in re.split(r"[\\/]", line):
        short = [re.split(r"[\\/]", name)[-1] for name in names]
        for name in (*names, *short):
            xml = index.find(f"{name}.xml")
            if xml is not None and xml.lower().endswith(".xml"):
                return xml[:-4], xml
    return strip_ending(readings[-1]), None


def _read_image(reader: _VocReader, entry: _VocEntry, *, number: int) -> ParsedImage | None:
    annotations = reader.files.annotations
    try:
        resolve_image_path(annotations, entry.xml or f"{entry.name}.xml")
    except UnsafePath as error:
        reader.problems.append(entry.problem(ProblemCode.UNSAFE_PATH, str(error)))
        return None
    if entry.xml is None:
        message = f"{display_path(annotations / f'{entry.name}.xml')} does not exist"
        reader.problems.append(entry.problem(ProblemCode.MISSING_FILE, message))
        return None
    path = annotations / entry.xml
    faults: list[Fault] = []
    image_name = _find_image_name(reader.image_index, entry.xml[:-4], "")
    try:
        tree = parse_xml(path, root="annotation")
    except MalformedXml as error:
        faults.append((error.line, ProblemCode.MALFORMED_FILE, str(error)))
        image = None
    else:
        filename = tree.child("filename")
        listed_name = "" if filename is None else filename.text
        image_name = _find_image_name(reader.image_index, entry.xml[:-4], listed_name)
        image = _build_image(reader, tree, path, faults=faults, name=image_name, number=number)
    reader.problems += [_build_problem(path, fault, image_name) for fault in faults]
    return image


def _build_image(
    reader: _VocReader, tree: Element, path: Path, *, faults: list[Fault], name: str, number: int
) -> ParsedImage | None:
    objects = [element for element in tree.children if element.tag == "object"]
    reader.num_boxes += len(objects)
    boxes = [box for element in objects if (box := _parse_box(element, faults)) is not None]
    num_faults = len(faults)
    size = _parse_size(tree, faults)
    if len(faults) > num_faults:
        return None
    reader.num_without_size += size is None
    return ParsedImage(
        file=path,
        location=f"line {(tree.child('filename') or tree).line}",
        name=name,
        size=size,
        size_location=f"line {(tree.child('size') or tree).line}",
        boxes=tuple(boxes),
        id=number,
    )


def _find_image_name(index: FileIndex, stem: str, listed_name: str) -> str:
    """The image of an XML file; `<filename>` decides between images of one stem.

    Also without such an image, `<filename>` is taken where it is a file.
    """
    listed = PurePosixPath(listed_name.replace("\\", "/")).name
    in_folder = PurePosixPath(stem).with_name(listed).as_posix() if listed else ""
    if in_folder and strip_ending(in_folder) == stem and index.has(in_folder):
        return in_folder
    if index.has(f"{stem}.jpg"):
        return f"{stem}.jpg"
    candidates = index.find_stem(stem)
    if candidates:
        return candidates[0]
    named = index.find(in_folder) or index.find(listed) if in_folder else None
    return named or f"{stem}.jpg"


def _collect_notes(reader: _VocReader, images: list[ParsedImage]) -> Iterator[str]:
    yield from describe_missing_sizes(reader.num_without_size, reader.files.annotations)
    if reader.files.list_file is None:
        annotated = {image.name for image in images}
        remaining = [path for path in reader.image_index.images if path not in annotated]
        if remaining:
            first = remaining[0]
            yield f"{len(remaining)} images have no XML file and are left out, first {first!a}."


def _build_problem(path: Path, fault: Fault, image_name: str) -> Problem:
    line, code, message = fault
    return Problem(display_path(path), f"line {line}", code, message, image_name)


def _parse_size(tree: Element, faults: list[Fault]) -> tuple[int, int] | None:
    """Width and height; None if they are missing, empty or 0, and None with a fault for words."""
    size = tree.child("size")
    lengths: list[float] = []
    for tag in ("width", "height"):
        child = None if size is None else size.child(tag)
        if size is not None and child is not None and child.text:
            length = _parse_number(size, tag, faults)
            lengths += [] if length is None or round(length) <= 0 else [length]
    return (round(lengths[0]), round(lengths[1])) if len(lengths) == 2 else None


def _parse_box(element: Element, faults: list[Fault]) -> ParsedBox | None:
    num_faults = len(faults)
    name = _require_child(element, "name", faults)
    if name is not None and not name.text:
        faults.append((name.line, ProblemCode.MISSING_FIELD, "<name> is empty"))
    difficult = element.child("difficult")
    is_difficult = _DIFFICULT.get("" if difficult is None else difficult.text.lower())
    if difficult is not None and is_difficult is None:
        message = f"<difficult> is {difficult.text!r:.60}, neither 0 nor 1"
        faults.append((difficult.line, ProblemCode.BAD_VALUE, message))
    edges = _parse_edges(element, faults)
    if name is None or edges is None or len(faults) > num_faults:
        return None
    x_min, y_min, x_max, y_max = edges
    return ParsedBox(
        location=f"line {element.line}",
        label=clean_label(name.text),
        edges=(x_min - 1, y_min - 1, x_max - x_min, y_max - y_min),
        is_crowd=bool(is_difficult),
    )


def _parse_edges(element: Element, faults: list[Fault]) -> tuple[float, float, float, float] | None:
    frame = _require_child(element, "bndbox", faults)
    if frame is None:
        return None
    x_min, y_min, x_max, y_max = (_parse_number(frame, edge, faults) for edge in _EDGES)
    if x_min is None or y_min is None or x_max is None or y_max is None:
        return None
    return x_min, y_min, x_max, y_max


def _require_child(element: Element, tag: str, faults: list[Fault]) -> Element | None:
    child = element.child(tag)
    if child is None:
        faults.append((element.line, ProblemCode.MISSING_FIELD, f"<{element.tag}> has no <{tag}>"))
    return child


def _parse_number(element: Element, tag: str, faults: list[Fault]) -> float | None:
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
