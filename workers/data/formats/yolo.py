"""Parses YOLO's labels: a text file per image, one line per object, numbers as parts of the image.

A line is `class x y width height` with the center of the box, or `class x1 y1 x2 y2 x3 y3 ...`, the
outline of the object, whose box is taken. With `kpt_shape` in data.yaml, keypoints follow the box;
they are left out.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from configs.spec.dataset import ClassNames
from workers.data.formats.file_names import FileIndex, is_image_name, strip_ending
from workers.data.formats.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.images import UnsafePath, resolve_image_path
from workers.data.problems import Problem, ProblemCode, display_path

_NUM_BOX_COLUMNS = 5
_NUM_OUTLINE_COLUMNS = 7
_MAX_PART = 2.0
"""Larger numbers are no parts of an image, but pixels."""


@dataclass(frozen=True)
class YoloFiles:
    """Where a split is: folders of images and lists of images, below one root."""

    file: Path
    """What names the sources: data.yaml, or the folder itself."""

    root: Path
    sources: tuple[Path, ...]
    names: ClassNames
    has_keypoints: bool = False


class _BadLine(ValueError):
    """A line that is not a label."""

    def __init__(self, code: ProblemCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _YoloReader:
    files: YoloFiles
    index: FileIndex
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_boxes: int = 0
    num_repeated: int = 0
    without_labels: list[str] = field(default_factory=list)

    def add_problem(self, path: Path, location: str, code: ProblemCode, message: str) -> None:
        self.problems.append(Problem(display_path(path), location, code, message))


def read_yolo(files: YoloFiles) -> ParsedSplit:
    """Parse the labels of a split; an image without a file of labels is one without objects."""
    reader = _YoloReader(files, FileIndex(files.root))
    names = [name for source in files.sources for name in _list_images(reader, source)]
    images: list[ParsedImage] = []
    for number, name in enumerate(dict.fromkeys(names), start=1):
        images.append(_read_image(reader, name, number))
    if images and len(reader.without_labels) == len(images):
        message = (
            f"none of {len(images):,} images has a file of labels; the first, {images[0].name}, "
            f"would have {_list_label_paths(images[0].name)[0]}"
        )
        reader.add_problem(files.file, "whole file", ProblemCode.MISSING_FILE, message)
    return ParsedSplit(
        file=files.file,
        images_dir=files.root,
        images=tuple(images),
        problems=tuple(reader.problems),
        num_listed_images=len(names),
        num_listed_boxes=reader.num_boxes,
        notes=(*reader.notes, *_describe(reader)),
    )


def _list_images(reader: _YoloReader, source: Path) -> Iterator[str]:
    """Names of the images in a folder, or in a list of images, relative to the root."""
    root = reader.files.root
    if source.is_dir():
        prefix = source.resolve().relative_to(root.resolve())
        for path in FileIndex(source).images:
            yield (prefix / path).as_posix()
        return
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        code = ProblemCode.MALFORMED_FILE
        if isinstance(error, FileNotFoundError):
            code = ProblemCode.MISSING_FILE
        reader.add_problem(source, "whole file", code, str(error))
        return
    listed = [_relate(line.strip(), source, root) for line in lines if line.strip()]
    matches = reader.index.match(listed)
    reader.notes += matches.notes
    for number, name in enumerate(listed, start=1):
        if name in matches.failures:
            message = matches.failures[name]
            reader.add_problem(source, f"entry {number}", ProblemCode.MISSING_IMAGE, message)
        else:
            yield matches.files.get(name, name)


def _relate(line: str, source: Path, root: Path) -> str:
    """A line of a list as a path in the root; `./` stands for the folder of the list."""
    folder = source.parent.resolve()
    if re.match(r"\.[\\/]", line) and folder.is_relative_to(root.resolve()):
        prefix = folder.relative_to(root.resolve())
        return (prefix / line.replace("\\", "/")).as_posix()
    return line


def _read_image(reader: _YoloReader, name: str, number: int) -> ParsedImage:
    label_path = next(filter(reader.index.has, _list_label_paths(name)), None)
    boxes: tuple[ParsedBox, ...] = ()
    if label_path is None:
        reader.without_labels.append(name)
    else:
        boxes = tuple(_read_labels(reader, label_path))
    file = reader.files.file if label_path is None else reader.files.root / label_path
    return ParsedImage(
        file=file,
        location="whole file",
        name=name,
        size=None,
        size_location="whole file",
        boxes=boxes,
        id=number,
    )


def _list_label_paths(name: str) -> tuple[str, ...]:
    """Where labels of an image may be: `images` in its path as `labels`, or beside the image."""
    same_folder = f"{strip_ending(name)}.txt"
    parts = PurePosixPath(same_folder).parts
    folders = [i for i, part in enumerate(parts[:-1]) if part.casefold() in ("images", "image")]
    if not folders:
        return (same_folder, f"labels/{same_folder}")
    position = folders[-1]
    paths = [
        PurePosixPath(*parts[:position], folder, *parts[position + 1 :]).as_posix()
        for folder in ("labels", "Labels", "label", "annotations")
    ]
    return (*paths, same_folder)


def _read_labels(reader: _YoloReader, name: str) -> Iterator[ParsedBox]:
    path = reader.files.root / name
    try:
        resolve_image_path(reader.files.root, name)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnsafePath as error:
        reader.add_problem(path, "whole file", ProblemCode.UNSAFE_PATH, str(error))
        return
    except (OSError, UnicodeDecodeError) as error:
        reader.add_problem(path, "whole file", ProblemCode.MALFORMED_FILE, str(error))
        return
    seen: set[tuple[str, ...]] = set()
    for number, line in enumerate(lines, start=1):
        columns = tuple(line.replace(",", " ").split())
        if not columns:
            continue
        reader.num_boxes += 1
        if columns in seen:
            reader.num_repeated += 1
            continue
        seen.add(columns)
        try:
            yield _parse_line(columns, f"line {number}", reader.files)
        except _BadLine as error:
            reader.add_problem(path, f"line {number}", error.code, str(error))


def _parse_line(columns: Sequence[str], location: str, files: YoloFiles) -> ParsedBox:
    label = _parse_class(columns[0], files.names)
    numbers = [_parse_number(column) for column in columns[1:]]
    if len(columns) == _NUM_BOX_COLUMNS or (
        files.has_keypoints and len(columns) > _NUM_BOX_COLUMNS
    ):
        x, y, width, height = numbers[:4]
        edges = (x - width / 2, y - height / 2, width, height)
    elif len(columns) >= _NUM_OUTLINE_COLUMNS and len(columns) % 2 == 1:
        xs, ys = numbers[0::2], numbers[1::2]
        edges = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    else:
        message = (
            f"it has {len(columns)} columns; a box has 5 (class, x, y, width, height), an outline "
            "7 or more, in pairs after the class"
        )
        if len(columns) == _NUM_BOX_COLUMNS + 1:
            message += "; a sixth one is the score of a prediction"
        raise _BadLine(ProblemCode.BAD_VALUE, message)
    return ParsedBox(location=location, label=label, edges=edges, is_relative=True)


def _parse_class(text: str, names: ClassNames) -> str:
    """The class name; a number without a name stays, and is then an unknown class."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise _BadLine(ProblemCode.BAD_VALUE, f"its class is {text!r:.60}, not a whole number")
    position = int(number)
    return names[position] if 0 <= position < len(names) else f"class {position}"


def _parse_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _BadLine(ProblemCode.BAD_NUMBER, f"{text!r:.60} is not a finite number")
    if abs(number) > _MAX_PART:
        message = f"{text!r:.60} is no part of an image (0 to 1); numbers in pixels are not YOLO's"
        raise _BadLine(ProblemCode.BAD_NUMBER, message)
    return number


def _describe(reader: _YoloReader) -> Iterator[str]:
    if reader.without_labels:
        first = reader.without_labels[0]
        yield (
            f"{len(reader.without_labels)} images have no file of labels, so they are images "
            f"without objects, first {first!a}."
        )
    if reader.num_repeated:
        yield f"{reader.num_repeated} lines of labels repeat a line of the same file; left out."


def is_label_file(path: Path) -> bool:
    """Whether a text file begins with a line of YOLO's labels."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            columns = next((line.split() for line in file if line.strip()), [])
        return len(columns) >= _NUM_BOX_COLUMNS and all(
            math.isfinite(float(column)) for column in columns
        )
    except (OSError, ValueError):
        return False


def is_image_list(path: Path) -> bool:
    """Whether a text file begins with the name of an image."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return is_image_name(next((line.strip() for line in file if line.strip()), ""))
    except (OSError, ValueError):
        return False
